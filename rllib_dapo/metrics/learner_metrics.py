"""The figures of one update, from its totals over tokens, responses and mini-batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics import LEARNER_RESULTS

from rllib_dapo.metrics.metric_table import ENTROPY, OWN_FIGURES, SKIPPED_IN_A_ROW, share

if TYPE_CHECKING:
    from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.learner.statistics import TokenStatistics

# Returns whose variance is under this share of their mean square are taken to be all equal.
EQUAL_RETURNS = 1e-9


def learner_metrics(statistics: TokenStatistics) -> dict[str, float]:
    """The figures of one update, by name.

    Some are there only where the configuration has what they are about. Where no optimizer step was
    taken, only their counts are there.

    Args:
        statistics: Totals of the update over all Learners.
    """
    counts = {name: statistics.sum(name) for name in ("gradient_updates", "skipped_updates")}
    if not statistics.sum("minibatches"):
        return counts

    response_tokens = statistics.sum("response_tokens")
    result = {
        **counts,
        "policy_loss": statistics.mean("policy_loss_sum", over="minibatches"),
        "total_loss": statistics.mean("total_loss", over="minibatches"),
        ENTROPY: statistics.mean("entropy_sum", over="response_tokens"),
        "mean_token_probability": statistics.mean("probability_sum", over="response_tokens"),
        "ratio_mean": statistics.mean("ratio_sum"),
        "ratio_max": statistics.max("ratio_max"),
        "gradient_norm": statistics.mean("gradient_norm", over="gradient_updates"),
        "gradient_norm_max": statistics.max("gradient_norm_max"),
        "sampler_logprob_gap_mean": statistics.mean("gap_sum", over="gap_tokens"),
        "sampler_logprob_gap_max": statistics.max("gap_max"),
        "trained_tokens": statistics.sum("tokens"),
        "trained_token_fraction": share(statistics.sum("tokens"), response_tokens),
    }

    if statistics.has("clip_low_count"):
        result["clip_fraction_low"] = statistics.mean("clip_low_count")
        result["clip_fraction_high"] = statistics.mean("clip_high_count")
    for name in statistics.names(OWN_FIGURES):
        result[name.removesuffix("_sum")] = statistics.mean(name)
    if statistics.has("kl_sum"):
        result["kl"] = statistics.mean("kl_sum")
    if statistics.has("importance_capped"):
        result["importance_capped_fraction"] = statistics.mean(
            "importance_capped", over="response_tokens"
        )
    if statistics.has("masked_responses"):
        result["masked_response_fraction"] = statistics.mean("masked_responses", over="responses")
    if statistics.has("masked_tokens"):
        result["masked_token_fraction"] = statistics.mean("masked_tokens", over="bounded_tokens")
    if statistics.has("value_loss_sum"):
        result |= _value_metrics(statistics)
    return result


def check_skipped_updates(metrics: MetricsLogger, config: DAPOConfig) -> None:
    """A policy whose gradient stays infinite or NaN will not learn any more.

    Args:
        metrics: The algorithm's, with the results of the last update.
        config: Its configuration.

    Raises:
        RuntimeError: If more optimizer steps in a row were left out than
            `training.max_skipped_updates`; one line.
    """
    limit = config.max_skipped_updates
    skipped = metrics.peek((LEARNER_RESULTS, DEFAULT_MODULE_ID, SKIPPED_IN_A_ROW), default=0)
    if limit is not None and skipped > limit:
        raise RuntimeError(
            f"the last {skipped:.0f} optimizer steps were left out, since their gradient was not "
            f"finite, and training.max_skipped_updates={limit}; lower training.lr={config.lr}, or "
            "go back to an earlier checkpoint"
        )


def _value_metrics(statistics: TokenStatistics) -> dict[str, float]:
    tokens = statistics.sum("value_tokens")
    mean_square = statistics.mean("return_square_sum", over="value_tokens")
    variance = mean_square - statistics.mean("return_sum", over="value_tokens") ** 2
    error = statistics.mean("value_error_square_sum", over="value_tokens")
    return {
        "value_loss": statistics.mean("value_loss_sum", over="minibatches"),
        "value_clip_fraction": share(statistics.sum("value_clip_count"), tokens),
        # Returns that are all equal have nothing to explain.
        "explained_variance": 1.0 - error / variance
        if variance > EQUAL_RETURNS * mean_square
        else 0.0,
    }
