"""Figures of an evaluation by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import pytest

from rllib_dapo.core import GroupSummary
from rllib_dapo.evaluation import average_at_k, evaluation_metrics

MakeSummary = Callable[..., GroupSummary]


def test_average_at_k_is_the_mean_over_problems_of_the_share_of_correct_responses(make_summary: MakeSummary) -> None:
    groups = [
        make_summary(0, rewards=(1, 1, 1, -1), is_correct=(True, True, True, False)),
        make_summary(1, rewards=(-1, -1, -1, -1), is_correct=(False, False, False, False)),
    ]
    assert average_at_k(groups) == (0.75 + 0.0) / 2


def test_a_missing_verdict_is_not_a_correct_one(make_summary: MakeSummary) -> None:
    groups = [make_summary(rewards=(1, nan, nan, -1), is_correct=(True, None, None, False))]
    assert average_at_k(groups) == 0.25


def test_every_problem_counts_alike_and_those_that_do_not_fit_not_at_all(make_summary: MakeSummary) -> None:
    groups = [
        make_summary(0, rewards=(1, 1), is_correct=(True, True)),
        make_summary(1, rewards=(-1, -1), is_correct=(False, False)),
        make_summary(2),
    ]
    assert average_at_k(groups) == 0.5


def test_an_evaluation_where_no_prompt_fits_says_so(make_summary: MakeSummary) -> None:
    with pytest.raises(ValueError, match=r"no prompt fits rollout\.max_prompt_tokens"):
        evaluation_metrics([make_summary(0), make_summary(1)])


def test_an_evaluation_reports_average_at_k_beside_rewards_and_lengths(make_summary: MakeSummary) -> None:
    groups = [
        make_summary(0, rewards=(1, -1), is_correct=(True, False), response_tokens=(2, 8), is_truncated=(False, True)),
        make_summary(1, rewards=(1, nan), is_correct=(True, None), response_tokens=(2, 4)),
    ]
    assert evaluation_metrics(groups) == pytest.approx(
        {
            "avg@2": 0.5,
            "problems": 2,
            "accuracy": 2 / 3,  # of the verdicts there are
            "episode_return_mean": 1 / 3,
            "episode_return_min": -1,
            "episode_return_max": 1,
            "episode_len_mean": 1,
            "episode_len_min": 1,
            "episode_len_max": 1,
            "response_length_mean": 4,
            "response_length_max": 8,
            "truncated_fraction": 0.25,
        }
    )
