from __future__ import annotations

from dataclasses import replace

from benchmarks.synthetic_run import synthetic_run
from rllib_dapo.reporting.run_notes import partial_batches, run_notes
from rllib_dapo.reporting.stored_run import StoredTrial


def _trials(count: int = 1) -> list[StoredTrial]:
    return list(synthetic_run(count, 60).trials)


def _texts(trials: list[StoredTrial], kind: str) -> list[str]:
    return [note["text"] for note in run_notes(trials) if note["kind"] == kind]


def test_partial_batches_are_counted_and_named() -> None:
    (trial,) = _trials()
    assert partial_batches(trial) == ([29, 58], 11, 16)
    (note,) = _texts([trial], "partial")
    assert note.startswith("2 iterations trained on a partial batch")
    assert "(29, 58), with 11 of 16 groups" in note


def test_a_batch_that_is_filled_otherwise_is_not_partial() -> None:
    (trial,) = _trials()
    filled = replace(trial, config={**trial.config, "on_shortfall": "keep_uninformative"})
    assert partial_batches(filled) is None


def test_a_bound_that_clips_nothing_is_idle() -> None:
    trials = _trials(4)
    assert _texts(trials, "idle") == [
        "epsilon_low was idle in all trials: it clipped no token in any iteration. Differences "
        "between these trials do not come from its value."
    ]
    trials[1].frame["learners/default_policy/clip_fraction_low"] = 0.1
    (note,) = _texts(trials, "idle")
    assert note.startswith("epsilon_low was idle in 3 of 4 trials (trial_00000, trial_00002, ")


def test_one_update_per_iteration_is_said() -> None:
    (trial,) = _trials()
    trial.frame["learners/default_policy/gradient_updates"] = 1.0
    (note,) = _texts([trial], "single update")
    assert note.startswith("Each iteration is one gradient update")
    stale = replace(trial, config={**trial.config, "max_staleness": 2})
    assert _texts([stale], "single update") == []
