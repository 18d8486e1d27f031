"""What a comparison reads of Tune's results, and writes into the run's folder."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem

from rllib_dapo.run.sweep_outcome import settings_of, sweep_trial


def _result(folder: Path, metrics: dict[str, Any], error: Exception | None = None) -> Any:
    return SimpleNamespace(
        metrics=metrics,
        metrics_dataframe=None,
        error=error,
        path=str(folder),
        filesystem=LocalFileSystem(),
    )


def test_a_trial_that_failed_before_its_first_result_has_its_settings_in_its_folder(
    tmp_path: Path,
) -> None:
    settings = {"epsilon_high": 0.4, "seed": 2}
    (tmp_path / "params.json").write_text(json.dumps(settings))
    trial = sweep_trial(_result(tmp_path, {}, error=RuntimeError("no room")))
    assert trial.config == settings
    assert trial.seed == "2"
    assert trial.value("env_runners/accuracy") is None


@pytest.mark.parametrize("text", ['{"epsilon_high": 0.', "[1, 2]"])
def test_a_file_that_is_cut_short_or_another_tells_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.json").write_text(text)
    assert settings_of(_result(tmp_path, {})) == {}
    assert settings_of(_result(tmp_path / "elsewhere", {})) == {}


def test_what_a_result_says_counts_and_a_race_s_reason_is_read(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text(json.dumps({"epsilon_high": 0.4}))
    metrics = {
        "config": {"epsilon_high": 0.3},
        "done": True,
        "stop_reason": "race: worse than the best point at iteration 12",
    }
    trial = sweep_trial(_result(tmp_path, metrics))
    assert trial.config == {"epsilon_high": 0.3}
    assert (trial.is_over, trial.dropped_at) == (True, 12)
    assert not sweep_trial(_result(tmp_path, metrics | {"done": False})).is_over
