from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rllib_dapo.findings import SettingsError
from rllib_dapo.reporting.stored_run import read_run
from rllib_dapo.reporting.write_report import write_report


@pytest.fixture
def copy(sweep_folder: Path, tmp_path: Path) -> Path:
    """The run in another place, to be changed."""
    return Path(shutil.copytree(sweep_folder, tmp_path / "moved"))


def test_a_run_that_was_moved_is_read_where_it_is_now(copy: Path) -> None:
    run = read_run(str(copy))
    assert all(trial.folder.startswith(str(copy)) for trial in run.trials)
    assert all(Path(c.path).is_relative_to(copy) for trial in run.trials for c in trial.checkpoints)
    assert [c.iteration for c in run.trials[0].checkpoints] == [2, 4]
    assert run.trials[0].samples


def test_the_metric_is_that_of_the_run_or_the_one_that_is_asked_for(sweep_folder: Path) -> None:
    assert read_run(str(sweep_folder)).metric == "env_runners/accuracy"
    assert (
        read_run(str(sweep_folder), metric="learners.default_policy.entropy").metric
        == "learners/default_policy/entropy"
    )


def test_iterations_done_again_after_a_checkpoint_count_once(copy: Path) -> None:
    path = copy / "trial_00000" / "result.json"
    lines = path.read_text().splitlines()
    again = json.loads(lines[2])
    again["env_runners"]["accuracy"] = 0.777
    path.write_text("\n".join([*lines, json.dumps(again)]) + "\n")
    frame = read_run(str(copy)).trials[0].frame
    assert frame["training_iteration"].tolist() == [1, 2, 3, 4]
    assert frame["env_runners/accuracy"][2] == 0.777


def test_a_trial_whose_results_are_gone_has_none_and_the_others_do(copy: Path) -> None:
    for name in ("result.json", "progress.csv"):
        (copy / "trial_00002" / name).unlink()
    run = read_run(str(copy))
    assert run.trials[2].status == "not started"
    assert len(run.trials[3].frame) == 4
    page = write_report(str(copy))
    assert page.stat().st_size > 5e5


def test_a_result_that_is_still_being_written_does_not_hide_those_before_it(copy: Path) -> None:
    path = copy / "trial_00001" / "result.json"
    path.write_text(path.read_text()[:-200])
    trials = read_run(str(copy)).trials
    assert [len(trial.frame) for trial in trials] == [4, 3, 4, 4]
    assert trials[1].frame["env_runners/accuracy"].tolist() == pytest.approx(
        [json.loads(line)["env_runners"]["accuracy"] for line in path.read_text().splitlines()[:3]]
    )
    assert trials[1].config["epsilon_low"] in (0.1, 0.2)


def test_a_run_whose_own_metric_was_not_reported_yet_can_be_read(copy: Path) -> None:
    record = copy / "run.json"
    known = json.loads(record.read_text())
    known["metric"] = "evaluation/env_runners/avg@64"
    record.write_text(json.dumps(known))
    assert read_run(str(copy)).metric == "evaluation/env_runners/avg@64"
    assert write_report(str(copy)).is_file()


def test_a_run_without_samples_or_checkpoints_has_a_page_too(copy: Path) -> None:
    for folder in [*copy.glob("*/samples"), *copy.glob("*/checkpoint_*")]:
        shutil.rmtree(folder)
    run = read_run(str(copy))
    assert {(trial.samples, trial.checkpoints) for trial in run.trials} == {((), ())}
    assert write_report(str(copy)).is_file()


def test_a_folder_without_a_run_is_refused_with_the_way_to_one(
    sweep_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"no run is there$"):
        read_run(str(tmp_path))
    with pytest.raises(SettingsError, match=f"the newest run in it is {sweep_folder}$"):
        read_run(str(sweep_folder.parent))
    with pytest.raises(SettingsError, match=f"it belongs to the run {sweep_folder}$"):
        read_run(str(sweep_folder / "trial_00000"))
    with pytest.raises(SettingsError, match="did you mean 'env_runners/accuracy'"):
        read_run(str(sweep_folder), metric="env_runners/acuracy")
