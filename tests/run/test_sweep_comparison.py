"""What a sweep is said to have shown: by its points, over seeds, in words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rllib_dapo.run.idle_settings import idle_settings
from rllib_dapo.run.search.race_milestones import dropped_reason
from rllib_dapo.run.sweep_comparison import SweepComparison, compare_sweep
from rllib_dapo.run.sweep_outcome import has_seeds, note_rows, point_rows, rank_trials
from rllib_dapo.run.sweep_points import SweepTrial, points_of

METRIC = "env_runners/accuracy"
HIGH = "learners/default_policy/clip_fraction_high"
LOW = "learners/default_policy/clip_fraction_low"


def _trial(
    value: float | None, *, seed: int = 0, clipped: float = 0.01, **settings: Any
) -> SweepTrial:
    """A trial of two iterations with this last value; None for one that has failed."""
    config = {"epsilon_low": 0.2, "lr": 1e-4, "epsilon_draw": str(settings), "seed": seed}
    frame = pd.DataFrame(
        {
            "training_iteration": [1, 2],
            METRIC: [0.1, math.nan if value is None else value],
            HIGH: [0.0, clipped],
            LOW: [math.nan, 0.02],
        }
    )
    return SweepTrial(config=config | settings, frame=frame, is_over=value is not None)


def _sweep(by_point: dict[float, list[float | None]], **options: Any) -> SweepComparison:
    trials = [
        _trial(value, seed=seed, epsilon_high=high)
        for high, values in by_point.items()
        for seed, value in enumerate(values)
    ]
    compared = compare_sweep(trials, metric=METRIC, mode=options.get("mode", "max"))
    assert compared is not None
    return compared


def test_trials_that_differ_in_their_seed_alone_are_one_point() -> None:
    trials = [_trial(0.5, seed=seed, epsilon_high=high) for seed in (0, 1) for high in (0.3, 0.4)]
    points = points_of([*trials, SweepTrial(config={}, frame=None, is_over=False)])
    assert [(point.settings, point.trials) for point in points] == [
        ({"epsilon_high": 0.3}, (0, 2)),
        ({"epsilon_high": 0.4}, (1, 3)),
    ]


def test_a_point_that_is_worse_beyond_chance_says_by_how_much() -> None:
    seeds, own_noise = [0.40, 0.60, 0.50, 0.45, 0.55], [0.02, -0.03, 0.01, -0.03, -0.03]
    compared = _sweep(
        {
            0.28: seeds,
            0.4: [value + 0.2 for value in seeds],
            0.6: [value + 0.2 + own for value, own in zip(seeds, own_noise, strict=True)],
        }
    )
    assert compared.verdict == "difference"
    assert compared.order == (1, 2, 0)
    assert [point.result.mark for point in compared.points] == ["worse", "best", "same"]
    assert compared.text == (
        "1 of 2 other points is worse than the best (98% confidence); 1 cannot be told from it"
    )
    worse, best, same = (point.text for point in compared.points)
    assert worse.startswith("0.5 +- 0.13 over 5 seeds; worse than the best by 0.1")
    assert best.startswith("0.7 +- ") and best.endswith("; the best")  # noqa: PT018
    assert "cannot be told from the best: it would take about" in same
    assert compared.points[2].seeds_needed is not None
    # The best trial is one of the best point, whatever the luck of others.
    assert compared.trials_from_best[:2] == [6, 9]
    assert rank_trials([1.0] * 15, compared, "max")[0] == 6


def test_a_sweep_without_a_difference_says_so_and_how_many_seeds_would_show_one() -> None:
    rng = np.random.default_rng(0)
    compared = _sweep({high: list(rng.normal(0.5, 0.02, 5)) for high in (0.2, 0.3, 0.4)})
    assert compared.verdict == "no difference"
    assert compared.text.startswith(
        "no difference: 3 points cannot be told apart by 5 seeds (98% confidence); about "
    )
    assert "would show a difference as large as the largest seen" in compared.text


def test_equal_results_of_different_settings_are_shown_as_equal() -> None:
    values: list[float | None] = [0.4, 0.6, 0.5]
    compared = _sweep({0.28: values, 0.4: values})
    assert compared.text.endswith("all their results are equal")
    assert compared.points[1].text == "0.5 +- 0.4 over 3 seeds; equal to the best"
    names = [f"trial_{place:05}" for place in range(6)]
    assert ("equal", f"point 1, point 2: the same {METRIC}") in note_rows(compared, names)

    alone = _sweep({0.28: [0.4], 0.4: [0.4], 0.6: [0.5]})
    rows = dict(note_rows(alone, names))
    assert rows["equal"] == f"trial_00000, trial_00001: the same {METRIC}"
    assert rows["verdict"].startswith("one seed for each point: what differs may be chance")
    assert not has_seeds(alone)
    assert rank_trials([0.4, 0.4, 0.5], alone, "max") == [2, 0, 1]


def test_failed_and_unfinished_trials_are_missing_and_told() -> None:
    seeds = [0.40, 0.60, 0.50, 0.45]
    compared = _sweep(
        {
            0.28: [*seeds],
            0.4: [0.39, None, 0.49, 0.44],
            0.6: [None, None, None, 0.9],
            0.8: [None] * 4,
        }
    )
    assert [point.missing for point in compared.points] == [0, 1, 3, 4]
    assert "over 3 of 4 seeds" in compared.points[1].text
    assert compared.points[3].text == "no result in 4 seeds"
    # One lucky trial makes no best point.
    assert compared.order == (0, 1, 2, 3)
    assert [point.result.mark for point in compared.points][::2] == ["best", "unknown"]
    assert compared.points[2].text.endswith("fewer than two seeds in common with the best")


def test_trials_that_repeat_a_seed_are_no_further_seeds() -> None:
    trials = [
        _trial(value, epsilon_high=high) for value, high in [(0.4, 0.3), (0.4, 0.3), (0.5, 0.4)]
    ]
    compared = compare_sweep(trials, metric=METRIC, mode="max")
    assert compared is not None
    assert (compared.seeds, compared.verdict) == (("0",), "unknown")


def test_points_that_a_race_dropped_are_worse_and_stand_behind_by_when_they_were() -> None:
    def dropped(value: float, seed: int, at: int, high: float) -> SweepTrial:
        trial = _trial(value, seed=seed, epsilon_high=high)
        return SweepTrial(
            config=trial.config, frame=trial.frame, is_over=True, stop_reason=dropped_reason(at)
        )

    trials = [
        *(dropped(0.9, seed, 1, 0.2) for seed in range(3)),
        *(dropped(0.2, seed, 2, 0.3) for seed in range(3)),
        *(_trial(0.6 + 0.01 * seed, seed=seed, epsilon_high=0.4) for seed in range(3)),
    ]
    compared = compare_sweep(trials, metric=METRIC, mode="max")
    assert compared is not None
    assert compared.order == (2, 1, 0)
    assert compared.verdict == "difference"
    assert [point.dropped_at for point in compared.points] == [1, 2, None]
    # At the iteration of the drop, not at the end.
    assert (
        compared.points[1].text == "0.2 over 3 seeds; dropped at iteration 2, worse by 0.41 there"
    )
    assert compared.points[0].result.difference == pytest.approx(0.0)


def test_a_bound_that_never_clipped_is_idle_and_one_that_was_not_measured_is_not() -> None:
    trials = [_trial(0.5, clipped=0.0, epsilon_high=high, lr=high) for high in (0.3, 0.4)]
    assert idle_settings(["epsilon_high", "epsilon_low", "lr"], trials) == {
        "epsilon_high": "no token was clipped from above in any trial"
    }
    assert idle_settings(["epsilon_high"], [*trials, _trial(0.5, epsilon_high=0.1)]) == {}
    compared = compare_sweep(trials, metric=METRIC, mode="max")
    assert compared is not None
    rows = note_rows(compared, ["trial_00000", "trial_00001"])
    assert rows[-1] == ("idle", "epsilon_high: no token was clipped from above in any trial")


def test_rows_name_settings_and_trials() -> None:
    compared = _sweep({0.28: [0.4, 0.5], 0.4: [0.41, 0.5]})
    names = [f"trial_{place:05}_a" for place in range(4)]
    rows = point_rows(compared, (), names)
    assert rows[0][0] == "point 2"
    assert rows[0][1].startswith("epsilon_high=0.4: 0.455 +- ")
    assert rows[1][1].endswith("(trials 0, 1)")


def test_a_single_trial_is_no_sweep() -> None:
    assert compare_sweep([_trial(0.5)], metric=METRIC, mode="max") is None
    assert compare_sweep([], metric=METRIC, mode="max") is None
    one_point = compare_sweep([_trial(0.5, seed=s) for s in (0, 1)], metric=METRIC, mode="max")
    assert one_point is not None
    assert one_point.text == "one point: there is nothing to compare"
    assert note_rows(one_point, ["trial_00000", "trial_00001"]) == []
