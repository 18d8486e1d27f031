"""The cause of a failure is what a terminal shows last."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from ray import tune

from rllib_dapo.run.failures import failure_lines, keep_error
from rllib_dapo.run.tuner import RunResult


def outcome(*errors: Exception | None, printed: tuple[str, ...] = ()) -> RunResult:
    grid: Any = [
        tune.Result(metrics=None, checkpoint=None, error=error, path=f"runs/trial_{number:05d}")
        for number, error in enumerate(errors)
    ]
    return RunResult(grid=grid, folder="runs", exceptions=printed, record=cast("Any", None))


def test_nothing_is_told_where_nothing_failed() -> None:
    assert failure_lines(outcome(None, None, printed=("worker pid=1: KeyError: 'a'",))) == []


def test_the_cause_comes_after_all_that_explains_it() -> None:
    assert failure_lines(outcome(ValueError("no room"), printed=("worker pid=1: KeyError",))) == [
        "the first errors that any process printed:",
        "  worker pid=1: KeyError",
        "  all of them: runs/workers.log",
        "the whole error of trial_00000: runs/trial_00000/error.txt",
        "trial_00000 failed: ValueError: no room",
    ]


def test_of_several_trials_each_has_its_cause() -> None:
    lines = failure_lines(outcome(ValueError("no room"), None, KeyError("b")))
    assert lines == [
        "2 of 3 trials failed:",
        "the whole error of trial_00000: runs/trial_00000/error.txt",
        "trial_00000 failed: ValueError: no room",
        "the whole error of trial_00002: runs/trial_00002/error.txt",
        "trial_00002 failed: KeyError: 'b'",
    ]


def test_where_an_error_only_points_elsewhere_what_was_printed_is_the_cause() -> None:
    error = RuntimeError("The actor died unexpectedly before finishing this task.")
    lines = failure_lines(outcome(error, printed=("TextEnvRunner pid=7: MemoryError: no room",)))
    assert lines[-1] == "trial_00000 failed: TextEnvRunner pid=7: MemoryError: no room"


def test_an_error_of_the_run_itself_is_kept_and_told_last(tmp_path: Path) -> None:
    lines = keep_error(ValueError("no such folder"), str(tmp_path))
    assert lines == [
        f"the whole error: {tmp_path / 'error.txt'}",
        "the run failed: ValueError: no such folder",
    ]
    assert "ValueError: no such folder" in (tmp_path / "error.txt").read_text()
