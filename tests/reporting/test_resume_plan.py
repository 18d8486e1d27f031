"""What `--resume` does with a finished sweep, before anything starts. The run is a real one."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from ray.tune import ExperimentAnalysis

from rllib_dapo.findings import SettingsError
from rllib_dapo.ray_internals import make_resumable
from rllib_dapo.run.resume_plan import ResumePlan, plan_resume
from rllib_dapo.run.run_record import FILE_NAME, RunRecord, read_record

FOUR = {"training_iteration": 4}


def _record(folder: Path) -> RunRecord:
    record = read_record(str(folder))
    assert record is not None
    return record


def _plan(folder: Path, *, stop: dict[str, Any] | None = None, **settings: Any) -> ResumePlan:
    record = _record(folder)
    now = dataclasses.replace(
        record,
        stop={**record.stop, **(stop or {})},
        settings={**record.settings, **{k.replace("__", "."): v for k, v in settings.items()}},
    )
    return plan_resume(str(folder), now)


def test_a_finished_run_has_nothing_left_to_do(sweep_folder: Path) -> None:
    plan = _plan(sweep_folder)
    # Of the four pairs of bounds all are admissible.
    assert (plan.is_over, plan.num_finished, plan.reopened) == (True, 4, ())
    assert plan.reached == "4 iterations"
    assert _record(sweep_folder).num_trials == 4


def test_more_iterations_reopen_the_trials_that_ended_at_the_old_limit(sweep_folder: Path) -> None:
    plan = _plan(sweep_folder, stop={"training_iteration": 6})
    assert not plan.is_over
    assert len(plan.reopened) == 4
    assert plan.record.stop["training_iteration"] == 6


def test_a_limit_that_is_taken_away_or_new_is_understood(sweep_folder: Path) -> None:
    endless = _plan(sweep_folder, stop={"training_iteration": None})
    assert len(endless.reopened) == 4
    further = {"training_iteration": 9, "env_runners/accuracy": -1.0}
    assert _plan(sweep_folder, stop=further).is_over  # every trial has that accuracy


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        ({"training_iteration": 3}, r"stop\.training_iteration=3, but trial_\d+ is at 4 already"),
        ({"time_total_s": 0.001}, r"stop\.time_total_s=0\.001, but trial_\d+ is at "),
    ],
)
def test_a_limit_that_is_passed_already_is_refused(
    sweep_folder: Path, stop: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        _plan(sweep_folder, stop=stop)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "before"),
    [
        ("training.lr", 5e-4, 0.001),
        ("training.group_size", 16, 4),
        ("training.gamma", 0.9, 1.0),  # a default that nobody wrote
        ("tune.num_samples", 2, 1),
        ("tune.mode", "min", "max"),
        ("environment.env_config.max_operand", 19, 9),
        ("environment.env_config.digits", 2, "not set"),
        ("search.training.epsilon_low.grid", [0.1], [0.1, 0.2]),
        ("preset", "grpo", "dapo"),
    ],
)
def test_any_other_change_is_refused_with_the_way_out(
    sweep_folder: Path, name: str, value: Any, before: Any
) -> None:
    with pytest.raises(SettingsError) as refused:
        _plan(sweep_folder, **{name: value})
    assert str(refused.value) == (
        f"--resume: {name} is {value!r} now, but the run was started with {before!r}; only stop.* "
        f"can change: leave {name}={value!r} out, or start a new run without --resume"
    )


def test_a_default_that_is_written_out_is_no_change(sweep_folder: Path) -> None:
    assert _plan(sweep_folder, **{"training.gamma": 1.0, "dynamic_sampling.enabled": False}).is_over


def test_trials_that_have_lost_their_checkpoints_are_not_begun_again(
    sweep_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(sweep_folder, tmp_path / "run"))
    for checkpoint in folder.glob("trial_00001/checkpoint_*"):
        shutil.rmtree(checkpoint)
    assert _plan(folder).is_over
    with pytest.raises(SettingsError, match="trial_00001 has no checkpoint left"):
        _plan(folder, stop={"training_iteration": 6})


def test_a_scheduler_that_planned_with_the_length_keeps_it(
    sweep_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(sweep_folder, tmp_path / "run"))
    record = json.loads((folder / FILE_NAME).read_text())
    record["settings"]["tune.scheduler.type"] = "asha"
    (folder / FILE_NAME).write_text(json.dumps(record))
    assert _plan(folder).is_over
    with pytest.raises(SettingsError, match=r"with tune\.scheduler\.type=asha a started run keeps"):
        _plan(folder, stop={"training_iteration": 6})


def test_a_folder_of_another_program_is_refused(sweep_folder: Path, tmp_path: Path) -> None:
    now = _record(sweep_folder)
    with pytest.raises(SettingsError, match=r"has no run\.json"):
        plan_resume(str(tmp_path), now)
    for text in ("", "{}", '{"format": 1}', "[]", '{"format": 99}'):
        (tmp_path / FILE_NAME).write_text(text)
        with pytest.raises(SettingsError, match=r"has no run\.json"):
            plan_resume(str(tmp_path), now)


def test_reopened_trials_wait_for_tune_and_the_old_snapshot_stays(
    sweep_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(sweep_folder, tmp_path / "run"))
    before = {path: path.read_bytes() for path in folder.glob("experiment_state-*.json")}
    first = ExperimentAnalysis(str(folder)).trials[0].trial_id
    make_resumable(str(folder), reopened=[first], is_stop_changed=True)
    trials = ExperimentAnalysis(str(folder)).trials
    assert [t.status for t in trials] == [
        "PENDING" if t.trial_id == first else "TERMINATED" for t in trials
    ]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_trial_that_died_in_a_save_is_not_stopped_after_the_next_one(
    sweep_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(sweep_folder, tmp_path / "run"))
    snapshot = max(folder.glob("experiment_state-*.json"))
    state = json.loads(snapshot.read_text())
    state["runner_data"]["_cached_trial_decisions"] = {"some": "STOP"}
    snapshot.write_text(json.dumps(state))

    make_resumable(str(folder))
    resumed = json.loads(max(folder.glob("experiment_state-*.json")).read_text())
    assert "_cached_trial_decisions" not in resumed["runner_data"]
    assert resumed["runner_data"]["_stopper"] == state["runner_data"]["_stopper"]
    assert resumed["trial_data"] == state["trial_data"]
    make_resumable(str(tmp_path))  # a run that ended before Tune's first snapshot
