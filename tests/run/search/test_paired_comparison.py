"""Points of a sweep compared seed by seed: what is found, what is not, and with which certainty."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from rllib_dapo.run.search.paired_comparison import (
    LEVEL,
    MOST_SEEDS,
    compare_points,
    critical_value,
    seeds_needed,
)

NOWHERE = math.nan
SWEEPS = 400
# Points, seeds, and what the noise of a cell is multiplied by, for a shape (points, seeds).
SHAPES = {
    "nine points of a grid": (9, 5, np.ones((9, 5))),
    "two points": (2, 5, np.ones((2, 5))),
    "twenty points": (20, 5, np.ones((20, 5))),
    "three seeds": (9, 3, np.ones((9, 3))),
    "one seed with six times the noise": (9, 5, np.array([1, 1, 1, 1, 6.0])[None, :]),
    "half of the points with a quarter of the noise": (
        9,
        5,
        np.where(np.arange(9) < 4, 1.0, 0.25)[:, None],
    ),
}


def _noise(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_t(2.5, shape) if kind == "heavy tails" else rng.normal(size=shape)


@pytest.mark.parametrize("kind", ["normal", "heavy tails"])
@pytest.mark.parametrize("name", SHAPES)
def test_points_that_are_equal_are_not_told_apart_in_19_of_20_sweeps(name: str, kind: str) -> None:
    num_points, num_seeds, scale = SHAPES[name]
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(SWEEPS):
        # What seeds do to all points alike is three times as large as what they do to one.
        shared = rng.normal(0, 3, (1, num_seeds))
        noise = _noise(kind, rng, (num_points, num_seeds)) * scale
        verdicts.append(compare_points(0.5 + 0.1 * (shared + noise)).verdict)
    assert verdicts.count("no difference") >= 0.95 * SWEEPS


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_planted_difference_is_found_although_seeds_differ_by_more(mode: str) -> None:
    rng = np.random.default_rng(1)
    sign = 1 if mode == "max" else -1
    best = told = 0
    for _ in range(100):
        values = rng.normal(0, 3, (1, 5)) + rng.normal(size=(9, 5))
        values[4] += sign * 4.0
        result = compare_points(values, mode=mode)  # type: ignore[arg-type]
        best += result.best == 4 and result.verdict == "difference"
        told += sum(point.mark == "worse" for point in result.points)
    assert best == 100
    assert told >= 0.9 * 100 * 8


def test_two_points_are_compared_as_by_the_paired_t_test() -> None:
    values = np.array([[0.42, 0.51, 0.47, 0.40, 0.55], [0.40, 0.47, 0.46, 0.37, 0.52]])
    (best, other) = compare_points(values, level=0.95).points
    test = stats.ttest_rel(values[1], values[0])
    assert test.pvalue < 0.05
    assert (best.mark, other.mark) == ("best", "worse")
    assert other.difference_interval == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert other.difference == pytest.approx(-0.026)
    assert compare_points(values, level=0.999).verdict == "no difference"


def test_the_bound_for_many_points_is_tukeys() -> None:
    # Table of the studentized range, 9 groups and 30 degrees of freedom, 5 %.
    assert critical_value(9, 30, 0.95) * math.sqrt(2) == pytest.approx(4.72, abs=0.005)
    assert critical_value(2, 4, 0.95) == pytest.approx(stats.t.ppf(0.975, 4))
    assert critical_value(1, 4, 0.95) == math.inf


def test_with_one_seed_nothing_is_known_but_what_is_equal() -> None:
    result = compare_points(np.array([[0.4], [0.5], [0.4], [NOWHERE]]))
    assert result.verdict == "unknown"
    assert result.order == (1, 0, 2, 3)
    assert [point.mark for point in result.points] == ["unknown", "best", "unknown", "unknown"]
    assert [point.equal_to for point in result.points] == [(2,), (), (0,), ()]
    assert all(point.interval is None for point in result.points)


def test_points_with_the_same_results_are_equal_and_no_number_of_seeds_would_tell() -> None:
    values = np.array([[0.1, 0.7, 0.3], [0.1, 0.7, 0.3], [0.1, 0.7, 0.3]])
    result = compare_points(values)
    assert result.verdict == "no difference"
    assert [point.difference for point in result.points] == [0, 0, 0]
    assert result.points[1].equal_to == (0, 2)
    assert seeds_needed(difference=0, noise=0.1, num_points=3) is None


def test_a_difference_that_is_the_same_in_two_seeds_by_rounding_proves_nothing() -> None:
    assert compare_points(np.array([[0.25, 0.5], [0.375, 0.625]])).verdict == "no difference"
    # In many seeds it does.
    assert compare_points(np.array([[0.25] * 10, [0.375] * 10])).verdict == "difference"


def test_a_missing_trial_takes_its_seed_out_of_the_comparison_and_no_point_gains_by_it() -> None:
    rng = np.random.default_rng(2)
    easy = np.array([[1.0, 1.0, 1.0, 1.0, -9.0]])  # the last seed is hard for everyone
    values = easy + 0.01 * rng.normal(size=(4, 5))
    values[0] += 1
    values[1, 4] = NOWHERE  # its plain mean would be the best

    result = compare_points(values)
    assert result.best == 0
    assert [point.num_values for point in result.points] == [5, 4, 5, 5]
    assert [point.mark for point in result.points] == ["best", "worse", "worse", "worse"]
    assert result.points[1].mean == pytest.approx(result.points[2].mean, abs=0.05)
    assert result.points[1].difference == pytest.approx(-1, abs=0.05)


def test_a_point_without_two_seeds_beside_the_best_is_not_compared() -> None:
    values = np.array([[3.0, 3.1, 2.9], [1.0, NOWHERE, NOWHERE], [NOWHERE] * 3, [2.0, 2.1, 1.95]])
    result = compare_points(values)
    assert [point.mark for point in result.points] == ["best", "unknown", "unknown", "worse"]
    assert result.points[2].mean is None
    assert result.order[-1] == 2


def test_nothing_at_all_is_no_error() -> None:
    result = compare_points(np.full((2, 3), NOWHERE))
    assert (result.verdict, result.best) == ("unknown", None)


def test_a_noisy_point_is_held_against_its_own_noise() -> None:
    quiet = np.random.default_rng(3).normal(0, 0.01, (8, 5))
    noisy = np.array([[5.0, -4.0, 3.0, -2.0, 1.0]])
    result = compare_points(np.vstack([quiet, noisy]))
    assert result.verdict == "no difference"


@pytest.mark.parametrize("num_points", [2, 9])
def test_as_many_seeds_as_are_said_to_be_needed_find_the_difference(num_points: int) -> None:
    count = seeds_needed(difference=1.0, noise=math.sqrt(2), num_points=num_points)
    assert count is not None
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(200):
        values = rng.normal(size=(num_points, count))
        values[0] += 1.0
        values[2:] -= 1.0  # the question is the best against the second
        result = compare_points(values)
        found += result.points[1].mark == "worse"
    assert 0.6 <= found / 200 <= 0.95
    assert seeds_needed(difference=0.01, noise=1.0, num_points=num_points) is None
    assert count <= MOST_SEEDS
    assert LEVEL == 0.98
