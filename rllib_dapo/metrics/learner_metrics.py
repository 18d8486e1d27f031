"""The figures of one update, from its totals over tokens, responses and mini-batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rllib_dapo.metrics.metric_table import ENTROPY, share

if TYPE_CHECKING:
    from rllib_dapo.learner.statistics import TokenStatistics

# Returns whose variance is under this share of their mean square are taken to be all equal.
EQUAL_RETURNS = 1e-9


def learner_metrics(statistics: TokenStatistics) -> dict[str, float]:
    """The figures of one update, by name.

    Some are there only where the configuration has what they are about.

    Args:
        statistics: Totals of the update over all Learners.
    """
    taken = statistics.sum("gradient_updates")
    response_tokens = statistics.sum("response_tokens")
    result = {
        "policy_loss": statistics.mean("policy_loss_sum", over="minibatches"),
        "total_loss": statistics.mean("total_loss", over="minibatches"),
        ENTROPY: statistics.mean("entropy_sum", over="response_tokens"),
        "mean_token_probability": statistics.mean("probability_sum", over="response_tokens"),
        "clip_fraction_low": statistics.mean("clip_low_count"),
        "clip_fraction_high": statistics.mean("clip_high_count"),
        "ratio_mean": statistics.mean("ratio_sum"),
        "ratio_max": statistics.max("ratio_max"),
        "gradient_norm": statistics.mean("gradient_norm", over="gradient_updates"),
        "gradient_norm_max": statistics.max("gradient_norm_max"),
        "gradient_updates": taken,
        "skipped_updates": statistics.sum("skipped_updates"),
        "sampler_logprob_gap_mean": statistics.mean("gap_sum", over="gap_tokens"),
        "sampler_logprob_gap_max": statistics.max("gap_max"),
        "trained_tokens": statistics.sum("tokens"),
        "trained_token_fraction": share(statistics.sum("tokens"), response_tokens),
    }

    if statistics.has("kl_sum"):
        result["kl"] = statistics.mean("kl_sum")
    if statistics.has("importance_capped"):
        result["importance_capped_fraction"] = statistics.mean(
            "importance_capped", over="response_tokens"
        )
    if statistics.has("masked_responses"):
        result["masked_response_fraction"] = statistics.mean("masked_responses", over="responses")
    if statistics.has("value_loss_sum"):
        result |= _value_metrics(statistics)
    return result


def _value_metrics(statistics: TokenStatistics) -> dict[str, float]:
    tokens = statistics.sum("tokens")
    mean_square = statistics.mean("return_square_sum")
    variance = mean_square - statistics.mean("return_sum") ** 2
    error = statistics.mean("value_error_square_sum")
    return {
        "value_loss": statistics.mean("value_loss_sum", over="minibatches"),
        "value_clip_fraction": share(statistics.sum("value_clip_count"), tokens),
        # Returns that are all equal have nothing to explain.
        "explained_variance": 1.0 - error / variance
        if variance > EQUAL_RETURNS * mean_square
        else 0.0,
    }
