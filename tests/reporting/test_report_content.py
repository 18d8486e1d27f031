from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs.row_counts import DataReport, RowFinding, SourceReport
from rllib_dapo.reporting.figures_content import json_number
from rllib_dapo.reporting.report_content import report_content
from rllib_dapo.reporting.stored_run import StoredRun, read_run


@pytest.fixture(scope="module")
def run(sweep_folder: Path) -> StoredRun:
    return read_run(str(sweep_folder))


@pytest.fixture(scope="module")
def data(run: StoredRun) -> dict[str, Any]:
    return report_content(run, link=None)


def test_a_sweep_has_its_trials_by_name_and_what_was_varied_bounds_first(
    data: dict[str, Any],
) -> None:
    assert [trial["name"] for trial in data["trials"]] == [f"trial_{n:05}" for n in range(4)]
    assert data["varied"] == ["epsilon_low", "epsilon_high"]
    bounds = {
        (trial["varied"]["epsilon_low"], trial["varied"]["epsilon_high"])
        for trial in data["trials"]
    }
    assert bounds == {(0.1, 0.2), (0.1, 0.3), (0.2, 0.2), (0.2, 0.3)}
    assert {trial["status"] for trial in data["trials"]} == {"finished"}


def test_curves_are_those_of_result_json(sweep_folder: Path, data: dict[str, Any]) -> None:
    lines = (sweep_folder / "trial_00001" / "result.json").read_text().splitlines()
    results = [json.loads(line) for line in lines]
    for title, source in {
        "Accuracy": ("env_runners", "accuracy"),
        "Reward": ("env_runners", "episode_return_mean"),
    }.items():
        (panel,) = [panel for panel in data["panels"] if panel["title"] == title]
        curve = data["trials"][1]["figures"][panel["curves"][0]["figure"]]
        assert curve["x"] == [1, 2, 3, 4]
        assert curve["y"] == pytest.approx(
            [result[source[0]][source[1]] for result in results], rel=1e-4
        )


def test_every_panel_of_the_paper_was_measured(data: dict[str, Any]) -> None:
    panels = [panel for panel in data["panels"] if not panel["is_further"]]
    assert len(panels) == 8
    for trial in data["trials"]:
        for panel in data["panels"]:
            curves = [trial["figures"].get(curve["figure"]) for curve in panel["curves"]]
            assert any(curve and len(curve["x"]) == 4 for curve in curves), panel["title"]


def test_every_number_of_the_results_is_a_figure(run: StoredRun, data: dict[str, Any]) -> None:
    names = {figure["name"] for figure in data["figures"]}
    assert {"timers/training_step", "seconds/update", "evaluation/env_runners/pass@2"} <= names
    assert not [name for name in names if name.startswith(("config/l", "evaluation_at_start/"))]
    frame = run.trials[0].frame
    for name, curve in data["trials"][0]["figures"].items():
        if name in frame and not name.startswith("evaluation/"):
            assert len(curve["y"]) == frame[name].notna().sum(), name


def test_two_runs_are_compared_under_their_letters(run: StoredRun) -> None:
    other = replace(run, name="other", folder="/elsewhere")
    both = report_content(run, other, link=None)
    assert both["run"]["name"] == f"{run.name} and other"
    assert [entry["label"] for entry in both["runs"]] == ["A", "B"]
    assert both["runs"][1]["trials"] == [4, 5, 6, 7]
    assert both["trials"][5]["name"] == "B trial_00001"
    # Trials of the same settings in two runs are not taken for seeds of one.
    assert sorted(map(len, both["seed_groups"])) == [1] * 8


def test_evaluations_begin_before_training(data: dict[str, Any]) -> None:
    for trial in data["trials"]:
        assert trial["avg"]["name"] == "avg@2"
        assert trial["avg"]["x"] == [0, 2, 4]
        assert trial["evaluation"] == trial["avg"]["y"][-1]


def test_parts_of_the_time_add_up(run: StoredRun, data: dict[str, Any]) -> None:
    for trial, shown in zip(run.trials, data["trials"], strict=True):
        parts, total = shown["time"], trial.frame["time_this_iter_s"].sum()
        assert sum(parts.values()) == pytest.approx(total, rel=0.02)
        assert min(parts.values()) >= 0
        assert parts["update"] > 0 and parts["generation"] > 0 and parts["evaluation"] > 0  # noqa: PT018


def test_checkpoints_are_named_with_their_iterations(data: dict[str, Any]) -> None:
    for trial in data["trials"]:
        assert [checkpoint["iteration"] for checkpoint in trial["checkpoints"]] == [2, 4]
        assert all(Path(checkpoint["path"]).is_dir() for checkpoint in trial["checkpoints"])


def test_settings_tell_what_was_varied_and_changed_from_the_paper(data: dict[str, Any]) -> None:
    settings = {row["name"]: row for row in data["settings"]}
    assert [row["name"] for row in data["settings"]][:2] == ["epsilon_high", "epsilon_low"]
    assert settings["epsilon_low"]["value"] == "0.1, 0.2"
    assert settings["epsilon_low"]["is_varied"]
    assert (settings["group_size"]["value"], settings["group_size"]["default"]) == ("4", "16")
    assert settings["group_size"]["is_changed"]
    assert not settings["temperature"]["is_changed"]
    assert not [name for name in settings if name.startswith("_")]


def test_responses_of_a_prompt_run_over_the_evaluations(data: dict[str, Any]) -> None:
    for trial in data["trials"]:
        prompt = trial["prompts"][0]
        assert prompt["source"] == "evaluation"
        assert [entry["iteration"] for entry in prompt["iterations"]] == [0, 2, 4]
        assert all(entry["responses"] for entry in prompt["iterations"])


def test_all_of_it_is_json_without_infinities(data: dict[str, Any]) -> None:
    assert json.loads(json.dumps(data, allow_nan=False)) == data


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, None),
        (math.inf, None),
        (None, None),
        (123456789.0, 123456789.0),
        (0.123456789, 0.12346),
    ],
)
def test_numbers_have_the_digits_that_a_picture_needs(
    value: float | None, shown: float | None
) -> None:
    assert json_number(value) == shown


def test_what_was_read_from_files_stands_once_for_trials_that_read_the_same(run: StoredRun) -> None:
    assert report_content(run, link=None)["data"] == []
    finding = RowFinding(what="left out", reason="no answer", rows=1, first_row=3)
    source = SourceReport(
        source="d.jsonl",
        columns={"prompt": ("question",), "answer": ("answer",)},
        unused=(),
        rows=3,
        problems=2,
        findings=(finding,),
    )
    reports = {"training": DataReport(sources=(source,), problems=2)}
    first, second = (replace(trial, data_reports=reports) for trial in run.trials[:2])
    trials = [first, second, *run.trials[2:]]
    assert report_content(replace(run, trials=trials), link=None)["data"] == [
        {
            "use": "training",
            "lines": [
                "d.jsonl: 2 problems of 3 rows (prompt from question, answer from answer); "
                "left out: 1 with no answer (first: row 3)"
            ],
            "trials": [first.name, second.name],
        }
    ]
