"""The comparison of a sweep as data for the report's page, and in the file beside the results."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from rllib_dapo.reporting.report_content import report_content
from rllib_dapo.reporting.stored_run import StoredRun, read_run
from rllib_dapo.reporting.sweep_content import run_comparison, sweep_content
from rllib_dapo.run.search.race_milestones import dropped_reason
from rllib_dapo.run.sweep_outcome import FILE_NAME


@pytest.fixture(scope="module")
def run(sweep_folder: Path) -> StoredRun:
    return read_run(str(sweep_folder))


def test_points_of_a_report_are_its_trials_where_there_is_one_seed(run: StoredRun) -> None:
    content = report_content(run, link=None)["sweep_comparison"]
    assert content["settings"] == ["epsilon_high", "epsilon_low"] or content["settings"] == [
        "epsilon_low",
        "epsilon_high",
    ]
    assert content["seeds"] == ["0"]
    assert content["verdict"] == "unknown"
    assert [point["trials"] for point in content["points"]] == [[0], [1], [2], [3]]
    assert all(point["settings"].keys() == set(content["settings"]) for point in content["points"])
    assert content["order"][0] == run_best(run)
    json.dumps(content, allow_nan=False)


def run_best(run: StoredRun) -> int:
    return int(report_content(run, link=None)["run"]["from_best"][0])


def test_the_file_beside_the_results_says_the_same(run: StoredRun, sweep_folder: Path) -> None:
    kept = json.loads((sweep_folder / FILE_NAME).read_text())
    content = sweep_content(run_comparison(run))
    assert content is not None
    assert kept["text"] == content["text"]
    assert [point["trials"] for point in kept["points"]] == [[trial.name] for trial in run.trials]
    assert [point["values"] for point in kept["points"]] == [
        point["values"] for point in content["points"]
    ]


def _with_seeds(run: StoredRun) -> StoredRun:
    """The same results as if two points had run under two seeds."""
    trials = [
        dataclasses.replace(
            trial,
            config={**trial.config, "seed": place % 2, "epsilon_low": 0.1, "epsilon_high": high},
        )
        for place, (trial, high) in enumerate(zip(run.trials, (0.2, 0.2, 0.3, 0.3), strict=True))
    ]
    return dataclasses.replace(run, trials=tuple(trials))


def test_several_seeds_are_one_point_with_a_mean_and_an_interval(run: StoredRun) -> None:
    paired = _with_seeds(run)
    whole = report_content(paired, link=None)
    content = whole["sweep_comparison"]
    assert content["settings"] == ["epsilon_high"]
    assert [point["trials"] for point in content["points"]] == [[0, 1], [2, 3]]
    assert [point["seeds"] for point in content["points"]] == [["0", "1"]] * 2
    assert content["verdict"] in ("difference", "no difference")
    for point in content["points"]:
        low, high = point["interval"]
        assert low <= point["mean"] <= high
    best = content["points"][content["order"][0]]
    assert best["mark"] == "best"
    # The best trial is one of the best point.
    assert whole["run"]["from_best"][0] in best["trials"]


def test_trials_that_a_race_dropped_say_so_in_the_report(run: StoredRun) -> None:
    paired = _with_seeds(run)
    trials = [
        dataclasses.replace(
            trial, frame=trial.frame.drop(columns="stop_reason"), stop_reason=dropped_reason(2)
        )
        if place < 2
        else trial
        for place, trial in enumerate(paired.trials)
    ]
    whole = report_content(dataclasses.replace(paired, trials=tuple(trials)), link=None)
    assert whole["sweep_comparison"]["points"][0]["dropped_at"] == 2
    assert whole["sweep_comparison"]["points"][0]["mark"] == "worse"
    assert whole["trials"][0]["stop_reason"] == dropped_reason(2)


def test_a_single_run_has_no_comparison(run: StoredRun) -> None:
    alone = dataclasses.replace(run, trials=run.trials[:1])
    assert report_content(alone, link=None)["sweep_comparison"] is None
