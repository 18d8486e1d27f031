"""Statistics of the study, on numbers that were worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from study_statistics import (
    difference_interval,
    first_reached,
    iqm,
    iqm_interval,
    speed_up,
    speed_up_interval,
)


def test_the_interquartile_mean_leaves_a_quarter_out_at_each_end() -> None:
    # Of five one at each end, of eight two.
    assert iqm([0.0, 1.0, 2.0, 3.0, 100.0]) == 2.0
    assert iqm([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 9.0, 9.0]) == 2.5


def test_intervals_of_equal_values_are_that_value() -> None:
    assert iqm_interval([[0.5] * 5, [0.5] * 5]) == (0.5, 0.5)
    assert difference_interval([0.75] * 5, [0.5] * 5) == (0.25, 0.25)


def test_tasks_are_strata() -> None:
    """Each task keeps its number of runs, so the pooled mean of two constants does not move."""
    assert iqm_interval([[0.0] * 5, [1.0] * 5]) == (0.5, 0.5)


def test_an_interval_lies_around_its_mean_and_is_the_same_every_time() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.5]
    low, high = iqm_interval([values])
    assert 0.1 <= low < 0.3 < high <= 0.5
    assert (low, high) == iqm_interval([values])


def test_one_seed_has_no_interval() -> None:
    assert all(map(math.isnan, iqm_interval([[0.5]])))


@pytest.mark.parametrize(
    ("threshold", "place"),
    [(0.0, 0.0), (0.5, 15.0), (0.6, 20.0), (0.8, math.inf)],
    ids=["at the start", "between", "at a point", "never"],
)
def test_where_a_curve_first_reaches_a_value(threshold: float, place: float) -> None:
    assert first_reached([0, 10, 20, 30], [0.2, 0.4, 0.6, 0.1], threshold) == pytest.approx(place)


def curves(*ends: float) -> tuple[np.ndarray, np.ndarray]:
    """A seed for each end, which its accuracy comes to in a straight line over 100 updates."""
    x = np.tile([0.0, 50.0, 100.0], (len(ends), 1))
    return x, np.array([[0.0, end / 2, end] for end in ends])


def test_a_speed_up_is_the_bases_cost_over_the_arms_by_their_medians() -> None:
    # The base's median curve ends at 0.4, which the arm's, ending at 0.8, reaches half way.
    assert speed_up(curves(0.1, 0.4, 0.9), curves(0.8, 0.8, 0.2)) == 2.0


def test_an_arm_that_never_comes_there_has_a_speed_up_of_0() -> None:
    assert speed_up(curves(0.4), curves(0.2)) == 0.0


def test_there_is_no_speed_up_over_a_base_that_does_not_learn() -> None:
    assert math.isnan(speed_up(curves(0.0), curves(0.2)))


def test_an_interval_of_a_speed_up_draws_the_seeds_of_both_sides() -> None:
    low, high = speed_up_interval(curves(0.4, 0.4, 0.4), curves(0.8, 0.8, 0.2))
    assert low == 0.0
    assert high == 2.0
