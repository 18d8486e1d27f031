"""The figures of an update by hand."""

from __future__ import annotations

import pytest
import torch

from rllib_dapo.learner.statistics import TokenStatistics
from rllib_dapo.metrics.learner_metrics import learner_metrics
from rllib_dapo.metrics.metric_table import METRICS


def test_an_updates_figures_by_hand() -> None:
    statistics = TokenStatistics()
    # of 3 and 2 response tokens a mask has left 3 and 1
    statistics.add(tokens=3, ratio_sum=3.0, clip_low_count=1, clip_high_count=0)
    statistics.add(tokens=1, ratio_sum=2.0, clip_low_count=0, clip_high_count=1)
    statistics.add(response_tokens=3, entropy_sum=6.0, probability_sum=1.5)
    statistics.add(response_tokens=2, entropy_sum=1.5, probability_sum=1.0)
    statistics.add(policy_loss_sum=torch.tensor(0.5), total_loss=torch.tensor(0.75))
    statistics.add_common(minibatches=1, gradient_updates=1, gradient_norm=torch.tensor(2.0))
    statistics.add(policy_loss_sum=torch.tensor(-0.25), total_loss=torch.tensor(0.25))
    statistics.add_common(minibatches=1, gradient_updates=1, gradient_norm=torch.tensor(4.0))
    statistics.add_common(skipped_updates=1)
    statistics.add(gap_sum=0.5, gap_tokens=2)
    statistics.maximum(
        ratio_max=torch.tensor(2.0),
        gradient_norm_max=torch.tensor(4.0),
        gap_max=torch.tensor(0.375),
    )
    metrics = learner_metrics(statistics)

    assert metrics == pytest.approx(
        {
            "policy_loss": 0.125,
            "total_loss": 0.5,
            "entropy": 1.5,
            "mean_token_probability": 0.5,
            "clip_fraction_low": 0.25,
            "clip_fraction_high": 0.25,
            "ratio_mean": 1.25,
            "ratio_max": 2.0,
            "gradient_norm": 3.0,
            "gradient_norm_max": 4.0,
            "gradient_updates": 2,
            "skipped_updates": 1,
            "sampler_logprob_gap_mean": 0.25,
            "sampler_logprob_gap_max": 0.375,
            "trained_tokens": 4,
            "trained_token_fraction": 0.8,
        }
    )


def test_figures_of_what_is_switched_on_by_hand() -> None:
    statistics = TokenStatistics()
    statistics.add(
        tokens=4,
        response_tokens=5,
        kl_sum=0.5,
        importance_capped=2,
        masked_responses=1,
        responses=3,
        masked_tokens=1,
        bounded_tokens=5,
        clip_low_count=1,
        clip_high_count=1,
        **{"objective_figures/penalty_sum": 2.0},
    )
    # returns 1, 1, 0, 0: their variance is 0.25; the values miss them by a mean square of 0.05
    statistics.add(value_loss_sum=0.25, value_clip_count=1, return_sum=2.0, return_square_sum=2.0)
    statistics.add(value_error_square_sum=0.2, value_tokens=4)
    statistics.add_common(minibatches=2)
    metrics = learner_metrics(statistics)
    switched_on = {
        "kl": 0.125,
        "importance_capped_fraction": 0.4,
        "masked_response_fraction": 1 / 3,
        "masked_token_fraction": 0.2,
        "objective_figures/penalty": 0.5,
        "value_loss": 0.125,
        "value_clip_fraction": 0.25,
        "explained_variance": 0.8,
    }

    assert {name: metrics[name] for name in switched_on} == pytest.approx(switched_on)
    named = {metric.name for metric in METRICS if metric.source == "learners/default_policy"}
    assert metrics.keys() - {"objective_figures/penalty"} == named - {
        "objective_figures/*",
        "num_gradient_updates_lifetime",
        "skipped_updates_in_a_row",
    }


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_returns_that_are_all_equal_have_nothing_to_explain(value: float) -> None:
    statistics = TokenStatistics()
    statistics.add(
        tokens=3,
        value_tokens=3,
        value_loss_sum=1.0,
        value_error_square_sum=0.3,
        return_sum=3 * value,
        return_square_sum=sum([value * value] * 3),
    )
    statistics.add_common(minibatches=1)
    assert learner_metrics(statistics)["explained_variance"] == 0.0
