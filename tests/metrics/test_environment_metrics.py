"""The figures of each environment of a mixture, by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rllib_dapo.core.types import GroupSummary
from rllib_dapo.metrics.environment_metrics import environment_metrics

MakeSummary = Callable[..., GroupSummary]


def _name_of(seed: int) -> str:
    return "even" if seed % 2 == 0 else "odd"


def test_each_environment_has_figures_of_its_own(make_summary: MakeSummary) -> None:
    nan = float("nan")
    even = make_summary(
        0, rewards=(1, -1), is_correct=(True, False), response_tokens=(2, 4), reasons=("", "")
    )
    odd = make_summary(1, rewards=(0.5, nan), response_tokens=(10, 20), reasons=("", "crash: x"))
    lost = make_summary(3, lost="crash: y")
    assert environment_metrics([even, odd, lost], _name_of, accepted=[even]) == {
        "environment_reward/even": 0,
        "environment_accuracy/even": 0.5,
        "environment_response_length/even": 3,
        "environment_missing/even": 0,
        "environment_groups/even": 1,
        "environment_groups_accepted/even": 1,
        # graded only, so there is no accuracy
        "environment_reward/odd": 0.5,
        "environment_response_length/odd": 15,
        "environment_missing/odd": 0.5,
        "environment_groups/odd": 2,
        "environment_groups_accepted/odd": 0,
    }


def test_the_groups_of_all_environments_are_all_groups(make_summary: MakeSummary) -> None:
    groups = [make_summary(seed, rewards=(1, 0)) for seed in range(7)]
    figures = environment_metrics(groups, _name_of)
    assert figures["environment_groups/even"] + figures["environment_groups/odd"] == 7
    assert not any("accepted" in name for name in figures)


@pytest.mark.parametrize("groups", [0, 2])
def test_without_a_mixture_there_are_none(groups: int, make_summary: MakeSummary) -> None:
    assert environment_metrics([make_summary(seed) for seed in range(groups)], None) == {}
