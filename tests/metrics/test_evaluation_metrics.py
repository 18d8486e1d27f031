"""Figures of an evaluation by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import pytest

from rllib_dapo.core import GroupSummary
from rllib_dapo.metrics.evaluation_metrics import average_at_k, evaluation_metrics

MakeSummary = Callable[..., GroupSummary]


def test_average_at_k_is_the_mean_over_problems_of_the_share_of_correct_responses(
    make_summary: MakeSummary,
) -> None:
    groups = [
        make_summary(0, rewards=(1, 1, 1, -1), is_correct=(True, True, True, False)),
        make_summary(1, rewards=(-1, -1, -1, -1), is_correct=(False, False, False, False)),
    ]
    assert average_at_k(groups) == (0.75 + 0.0) / 2


def test_a_missing_verdict_is_not_a_correct_one(make_summary: MakeSummary) -> None:
    groups = [make_summary(rewards=(1, nan, nan, -1), is_correct=(True, None, None, False))]
    assert average_at_k(groups) == 0.25


def test_every_problem_counts_alike_and_those_that_do_not_fit_not_at_all(
    make_summary: MakeSummary,
) -> None:
    groups = [
        make_summary(0, rewards=(1, 1), is_correct=(True, True)),
        make_summary(1, rewards=(-1, -1), is_correct=(False, False)),
        make_summary(2),
    ]
    assert average_at_k(groups) == 0.5


def test_an_evaluation_where_no_prompt_fits_says_so(make_summary: MakeSummary) -> None:
    with pytest.raises(ValueError, match=r"no prompt fits rollout\.max_prompt_tokens"):
        evaluation_metrics([make_summary(0), make_summary(1)])


def test_an_evaluation_reports_accuracies_beside_rewards_and_lengths(
    make_summary: MakeSummary,
) -> None:
    groups = [
        make_summary(
            0,
            rewards=(1, -1, -1),
            is_correct=(True, False, False),
            response_tokens=(2, 8, 2),
            is_truncated=(False, True, False),
            predictions=("4", "5", "5"),
        ),
        make_summary(
            1,
            rewards=(1, nan, 1),
            is_correct=(True, None, True),
            response_tokens=(2, 4, 6),
            is_truncated=(False, False, True),
            predictions=("7", "", "7"),
        ),
    ]
    metrics = evaluation_metrics(groups)
    expected = {
        "avg@3": (1 / 3 + 2 / 3) / 2,
        "pass@3": 1,
        "maj@3": 1 / 2,  # the first problem's majority is wrong
        "problems": 2,
        "accuracy": 3 / 5,  # of the verdicts there are
        "completed_and_correct": 2 / 5,  # one of the three was cut off
        "episode_return_mean": 1 / 5,
        "response_length_mean": 4,
        "response_length_max": 8,
        "truncated_fraction": 2 / 6,
    }

    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_pass_at_k_asks_for_one_correct_response(make_summary: MakeSummary) -> None:
    groups = [
        make_summary(0, rewards=(-1, -1, 1, -1), is_correct=(False, False, True, False)),
        make_summary(1, rewards=(-1, -1, -1, nan), is_correct=(False, False, False, None)),
        make_summary(2),
    ]
    assert evaluation_metrics(groups)["pass@4"] == 0.5


def test_there_is_no_majority_where_there_are_no_predictions(make_summary: MakeSummary) -> None:
    metrics = evaluation_metrics([make_summary(rewards=(1, -1), is_correct=(True, False))])
    assert "pass@2" in metrics
    assert "maj@2" not in metrics


def test_an_environment_that_only_grades_knows_no_accuracy(make_summary: MakeSummary) -> None:
    metrics = evaluation_metrics([make_summary(rewards=(0.5, 0.25), predictions=("a", "b"))])
    assert metrics["episode_return_mean"] == 0.375
    assert not [name for name in metrics if "@" in name]
