"""Results become readings of gauges."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from rllib_dapo.metrics.metric_table import METRICS
from rllib_dapo.tracking.gauges import (
    GAUGES,
    PREFIX,
    SETTINGS,
    TAGS,
    GaugeSpec,
    iteration_line,
    readings,
)

RESULT: dict[str, Any] = {
    "training_iteration": 7,
    "time_this_iter_s": 2.5,
    "env_runners": {
        "accuracy": 0.25,
        "episode_return_mean": np.float64(-0.5),
        "groups_missing": np.int64(3),
        "response_length_mean": math.nan,
        "reward_components": {"format": 0.5},
        "reward_components/length": -1.0,
        "connector_pipelines": {"accuracy": 9.0},
        "rollout_tokens_per_second": 100.4,
    },
    "learners": {
        "default_policy": {"entropy": 1.5, "module": "text"},
        "__all_modules__": {"entropy": 9.0},
    },
    "evaluation": {"env_runners": {"avg@8": 0.75, "completed_and_correct": 0.5, "accuracy": 9.0}},
    "seconds": {"weight_sync": 0.125},
    SETTINGS: {"epsilon_low": 0.2, "epsilon_high": 0.28},
}


def test_every_metric_has_a_gauge() -> None:
    keys = {spec.key for spec in GAUGES}
    assert {f"{metric.source}/{metric.name}" for metric in METRICS} <= keys


@pytest.mark.parametrize("attribute", ["name", "key"])
def test_no_two_gauges_share_a_name_or_a_place(attribute: str) -> None:
    values = [getattr(spec, attribute) for spec in GAUGES]
    assert len(values) == len(set(values))


@pytest.mark.parametrize("spec", GAUGES, ids=lambda spec: spec.name)
def test_prometheus_takes_the_names(spec: GaugeSpec) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", spec.full_name)
    assert spec.full_name.startswith(PREFIX)
    assert spec.tags[: len(TAGS)] == TAGS


def test_a_result_gives_what_is_finite_and_known() -> None:
    assert {(spec.name, tag_value): value for spec, tag_value, value in readings(RESULT)} == {
        ("training_iteration", ""): 7.0,
        ("iteration_seconds", ""): 2.5,
        ("accuracy", ""): 0.25,
        ("episode_return_mean", ""): -0.5,
        ("groups_missing", ""): 3.0,
        ("reward_component", "format"): 0.5,
        ("reward_component", "length"): -1.0,
        ("rollout_tokens_per_second", ""): 100.4,
        ("entropy", ""): 1.5,
        ("evaluation_avg_at_k", "8"): 0.75,
        ("evaluation_completed_and_correct", ""): 0.5,
        ("weight_sync_seconds", ""): 0.125,
        ("epsilon_low", ""): 0.2,
        ("epsilon_high", ""): 0.28,
    }


@pytest.mark.parametrize(
    ("key", "tag_value"),
    [
        ("env_runners/reward_components/format", "format"),
        ("env_runners/reward_components/", None),
        ("env_runners/reward_components/a/b", "a/b"),
        ("env_runners/reward_components", None),
        ("evaluation/env_runners/reward_components/format", None),
    ],
)
def test_a_wildcard_stands_for_all_that_follows(key: str, tag_value: str | None) -> None:
    spec = next(spec for spec in GAUGES if spec.name == "reward_component")
    assert spec.tag_value(key) == tag_value


def test_the_actors_log_has_a_line_for_each_iteration() -> None:
    assert (
        iteration_line(RESULT)
        == "iteration 7: accuracy 0.250, reward -0.50, entropy 1.500, tokens/s 100"
    )


def test_the_actors_log_leaves_out_what_there_is_not() -> None:
    assert (
        iteration_line({"training_iteration": 1, "env_runners": {"accuracy": math.nan}})
        == "iteration 1: "
    )
