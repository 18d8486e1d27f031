from __future__ import annotations

from dataclasses import replace

from benchmarks.synthetic_run import synthetic_run
from rllib_dapo.reporting.seed_groups import seed_groups
from rllib_dapo.reporting.trial_settings import varied_settings


def test_trials_that_differ_only_in_the_seed_are_a_group() -> None:
    trials = synthetic_run(7, 3).trials
    varied = varied_settings(trials)
    assert "seed" in varied
    assert seed_groups(trials, varied, [0] * 7) == [[0, 1, 2], [3, 4, 5], [6]]


def test_repetitions_in_another_run_are_a_group_of_their_own() -> None:
    trials = synthetic_run(3, 3).trials * 2
    varied = varied_settings(trials)
    assert seed_groups(trials, varied, [0, 0, 0, 1, 1, 1]) == [[0, 1, 2], [3, 4, 5]]


def test_a_trial_that_has_not_begun_is_alone() -> None:
    first, *others = synthetic_run(3, 3).trials
    trials = [replace(first, config={}), *others]
    assert seed_groups(trials, ["seed"], [0] * 3) == [[0], [1, 2]]
