"""What an iteration's rollout leaves in RLlib's metrics, and in words where it fell short."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
    WEIGHTS_SEQ_NO,
)
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_dapo.metrics.metric_table import ROLLOUT_TOKENS_PER_SECOND
from rllib_dapo.metrics.rollout_metrics import rollout_metrics

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
    from rllib_dapo.rollout.rollout_result import RolloutResult


def log_rollout(
    metrics: MetricsLogger,
    sampler: DynamicSampler,
    results: Sequence[RolloutResult],
    *,
    shaping: Mapping[str, float],
    seconds: float,
    weights_version: int,
) -> None:
    """Logs the figures of one rollout under `env_runners/`.

    Args:
        metrics: The algorithm's metrics.
        sampler: Dynamic sampling after its last round.
        results: Results of all rounds.
        shaping: Figures on the shaping of rewards.
        seconds: Wall-clock time of the rollout.
        weights_version: Version of the weights that the engines hold.
    """
    tokens = sum(n for group in sampler.seen for n in group.response_tokens)
    metrics.log_dict(
        {
            **rollout_metrics(sampler),
            **shaping,
            ROLLOUT_TOKENS_PER_SECOND: tokens / seconds,
            "generation_seconds": sum(result.generation_seconds for result in results),
            "scoring_seconds": sum(result.scoring_seconds for result in results),
            WEIGHTS_SEQ_NO: weights_version,
        },
        key=ENV_RUNNER_RESULTS,
        window=1,
    )

    # What RLlib counts as environment steps and as episodes are responses here.
    responses = sum(len(group.rewards) for group in sampler.seen)
    for name in (NUM_ENV_STEPS_SAMPLED, NUM_EPISODES):
        metrics.log_value((ENV_RUNNER_RESULTS, name), responses, reduce="sum")
    for name in (NUM_ENV_STEPS_SAMPLED_LIFETIME, NUM_EPISODES_LIFETIME):
        metrics.log_value(
            (ENV_RUNNER_RESULTS, name), responses, reduce="lifetime_sum", with_throughput=True
        )


def describe_shortfall(sampler: DynamicSampler, config: DAPOConfig) -> str:
    """One line: how many groups were informative, why others were not, and the way out.

    Args:
        sampler: Dynamic sampling after its last round.
        config: The algorithm's configuration.
    """
    reasons = ", ".join(f"{count} {reason}" for reason, count in sampler.decisions.items())
    missing = next((group.missing_reason for group in sampler.seen if group.missing_reason), "")
    if missing and all(math.isnan(reward) for group in sampler.seen for reward in group.rewards):
        return (
            f"no response got a verdict in {sampler.rounds} rounds ({reasons}); the first reason: "
            f"{missing}"
        )

    if missing:
        reasons = f"{reasons}; the first missing verdict: {missing}"
    return (
        f"{len(sampler.accepted)} of {config.prompts_per_step} groups were informative after "
        f"{sampler.rounds} rounds ({reasons}). Raise "
        f"dynamic_sampling.max_rounds={config.max_rounds} or "
        f"training.group_size={config.group_size}, or give problems nearer to what the model can do"
    )
