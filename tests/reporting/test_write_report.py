from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from rllib_dapo.cli import app


def test_the_page_lies_in_the_runs_folder_unless_told_otherwise(
    sweep_folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(sweep_folder, tmp_path / "run"))
    done = CliRunner().invoke(app, ["report", str(copy)])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == f"report: {copy / 'report.html'}"
    other = CliRunner().invoke(
        app, ["report", str(copy), "--output", str(tmp_path / "new" / "page.html")]
    )
    assert other.exit_code == 0, other.output
    assert (tmp_path / "new" / "page.html").read_text().startswith("<!DOCTYPE html>")


def test_figures_come_as_json_and_csv_too(sweep_folder: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"figures.{name}" for name in ("html", "json", "csv")}
    words = ["--output", files["html"], "--json", files["json"], "--csv", files["csv"]]
    done = CliRunner().invoke(app, ["report", str(sweep_folder), *map(str, words)])
    assert done.exit_code == 0, done.output
    data, table = json.loads(files["json"].read_text()), pd.read_csv(files["csv"])
    assert len(data["trials"]) == len(table) == 4
    assert {"trial_id", "config/epsilon_low", "config/epsilon_high", "env_runners/accuracy"} <= set(
        table.columns
    )
    by_bounds = table.set_index(["config/epsilon_low", "config/epsilon_high"])[
        "learners/default_policy/entropy"
    ]
    for trial in data["trials"]:
        bounds = trial["varied"]["epsilon_low"], trial["varied"]["epsilon_high"]
        assert abs(trial["summary"]["entropy"] - by_bounds[bounds]) < 1e-4


def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert (done.exit_code, done.output) == (2, f"{tmp_path}: no run is there\n")


def test_several_runs_make_one_page_in_the_current_folder(
    sweep_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = Path(shutil.copytree(sweep_folder, tmp_path / "copy"))
    words = [str(sweep_folder), str(copy), "--json", "both.json", "--csv", "both.csv"]
    done = CliRunner().invoke(app, ["report", *words])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == f"report: {tmp_path / 'comparison.html'}"
    data, table = json.loads(Path("both.json").read_text()), pd.read_csv("both.csv")
    assert len(data["trials"]) == len(table) == 8
    assert table["run"].tolist() == [sweep_folder.name] * 4 + ["copy"] * 4
    twice = CliRunner().invoke(app, ["report", str(copy), str(copy)])
    assert (twice.exit_code, twice.output) == (2, f"{copy}: is given twice\n")


def test_another_programs_page_is_left_alone(sweep_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sweep_folder, tmp_path / "run"))
    (copy / "report.html").write_text("<p>mine</p>")
    done = CliRunner().invoke(app, ["report", str(copy)])
    assert done.exit_code == 2
    assert "is there already and is no report's" in done.output
    assert (copy / "report.html").read_text() == "<p>mine</p>"
