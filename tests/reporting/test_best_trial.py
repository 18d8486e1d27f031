"""Terminal and report name the same best trial, by the metric and mode in the run's folder."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ray.tune import ExperimentAnalysis, ResultGrid

from rllib_dapo.reporting.report_content import report_content
from rllib_dapo.reporting.stored_run import read_run
from rllib_dapo.run.best_trial import best_first, last_value
from rllib_dapo.run.run_record import FILE_NAME, read_record
from rllib_dapo.run.summary import best_result


def _run_by(sweep_folder: Path, tmp_path: Path, **changes: Any) -> Path:
    """A copy of the run, as if it had been started with another metric or mode."""
    folder = Path(shutil.copytree(sweep_folder, tmp_path / "run", dirs_exist_ok=True))
    record = json.loads((folder / FILE_NAME).read_text())
    (folder / FILE_NAME).write_text(json.dumps(record | changes))
    return folder


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(
    "metric",
    ["learners/default_policy/entropy", "evaluation/env_runners/avg@2", "env_runners/accuracy"],
)
def test_terminal_and_report_name_the_same_best_trial(
    sweep_folder: Path, tmp_path: Path, metric: str, mode: str
) -> None:
    folder = _run_by(sweep_folder, tmp_path, metric=metric, mode=mode)
    record = read_record(str(folder))
    assert record is not None
    told = best_result(list(ResultGrid(ExperimentAnalysis(str(folder)))), record)

    run = read_run(str(folder))
    content = report_content(run, link=None)["run"]
    name = Path(told.path).name
    assert (run.metric, run.mode, content["best"]) == (metric, mode, name)
    assert f"/{name}/checkpoint_" in content["export"]

    values = {t.name: last_value(t.frame, metric) for t in run.trials}
    choose = max if mode == "max" else min
    assert values[name] == choose(value for value in values.values() if value is not None)


def test_the_least_and_the_most_are_different_trials_here(
    sweep_folder: Path, tmp_path: Path
) -> None:
    entropy = "learners/default_policy/entropy"
    best = {}
    for mode in ("max", "min"):
        folder = _run_by(sweep_folder, tmp_path, metric=entropy, mode=mode)
        best[mode] = report_content(read_run(str(folder)), link=None)["run"]["best"]
    assert best["max"] != best["min"]


def test_what_is_asked_for_wins_and_another_metric_has_a_mode_of_its_own(
    sweep_folder: Path, tmp_path: Path
) -> None:
    entropy = "learners/default_policy/entropy"
    folder = str(_run_by(sweep_folder, tmp_path, metric=entropy, mode="min"))
    assert read_run(folder).mode == "min"
    assert read_run(folder, mode="max").mode == "max"
    assert read_run(folder, metric="learners.default_policy.entropy").mode == "min"
    assert read_run(folder, metric="env_runners.accuracy").mode == "max"


def test_values_that_are_none_come_last_and_of_equal_ones_the_first_first() -> None:
    assert best_first([None, 0.2, 0.5, 0.5], "max") == [2, 3, 1, 0]
    assert best_first([None, 0.2, 0.5, 0.5], "min") == [1, 2, 3, 0]
    assert best_first([], "max") == []
    frame = pd.DataFrame({"m": [0.1, 0.3, math.nan, math.inf], "none": [None] * 4})
    assert last_value(frame, "m") == 0.3
    assert last_value(frame, "none") is None
    assert last_value(None, "m") is None
