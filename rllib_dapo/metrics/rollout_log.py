"""What an iteration's rollout leaves in RLlib's metrics, and in words where it fell short."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    NUM_EPISODES_LIFETIME,
    WEIGHTS_SEQ_NO,
)
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from rllib_dapo.metrics.environment_metrics import environment_metrics
from rllib_dapo.metrics.metric_table import ROLLOUT_TOKENS_PER_SECOND
from rllib_dapo.metrics.rollout_metrics import rollout_metrics, staleness_metrics

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.rollout.batch_source import SampledBatch
    from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
    from rllib_dapo.rollout.rollout_result import RolloutResult


def log_rollout(
    metrics: MetricsLogger,
    batch: SampledBatch,
    *,
    shaping: Mapping[str, float],
    num_engines: int,
    weights_version: int,
    name_of: Callable[[int], str] | None = None,
) -> None:
    """Logs the figures of one rollout under `env_runners/`.

    Args:
        metrics: The algorithm's metrics.
        batch: What was sampled.
        shaping: Figures on the shaping of rewards.
        num_engines: Number of EnvRunners that sample.
        weights_version: Version of the weights that the engines hold.
        name_of: Names the environment of a prompt seed, in a mixture.
    """
    sampler, results, seconds = batch.sampler, batch.results, batch.seconds
    generation_seconds = sum(result.generation_seconds for result in results)
    metrics.log_dict(
        {
            **rollout_metrics(sampler),
            **environment_metrics(sampler.seen, name_of, accepted=sampler.accepted),
            **staleness_metrics(sampler.accepted, weights_version),
            **shaping,
            ROLLOUT_TOKENS_PER_SECOND: sampler.tokens / seconds,
            "generation_seconds": generation_seconds,
            "engine_idle_seconds": max(0.0, num_engines * seconds - generation_seconds),
            "scoring_seconds": sum(result.scoring_seconds for result in results),
            WEIGHTS_SEQ_NO: weights_version,
        },
        key=ENV_RUNNER_RESULTS,
        window=1,
    )

    if logged := [result.logged for result in results if result.logged]:
        metrics.aggregate(logged, key=ENV_RUNNER_RESULTS)

    # What RLlib counts as environment steps and as episodes are responses here.
    responses = sum(len(group.rewards) for group in sampler.seen)
    for name in (NUM_ENV_STEPS_SAMPLED, NUM_EPISODES):
        metrics.log_value((ENV_RUNNER_RESULTS, name), responses, reduce="sum")
    for name in (NUM_ENV_STEPS_SAMPLED_LIFETIME, NUM_EPISODES_LIFETIME):
        metrics.log_value(
            (ENV_RUNNER_RESULTS, name), responses, reduce="lifetime_sum", with_throughput=True
        )


def logged_figures(results: Iterable[RolloutResult]) -> dict[str, Any]:
    """What the user's callbacks have logged on EnvRunners, as figures by name.

    Args:
        results: What EnvRunners have brought.
    """
    logged = [result.logged for result in results if result.logged]
    if not logged:
        return {}
    logger = MetricsLogger(root=True)
    logger.aggregate(logged)
    return logger.reduce(compile=True)


def check_shortfall(sampler: DynamicSampler, config: DAPOConfig) -> None:
    """Ends a run that cannot go on with the groups of a step.

    Args:
        sampler: Dynamic sampling at its end.
        config: The algorithm's configuration.

    Raises:
        RuntimeError: If no prompt of the step was short enough, or if the batch is not full and
            `dynamic_sampling.on_shortfall` is `"raise"`; one line.
    """
    too_long = _too_long(sampler, config)
    if too_long and len(too_long) == len(sampler.seen):
        raise RuntimeError(
            f"none of this step's {len(too_long)} prompts fits into rollout.max_prompt_tokens="
            f"{config.max_prompt_tokens}: they have {min(too_long)} to {max(too_long)} tokens; "
            "raise rollout.max_prompt_tokens, or give shorter prompts"
        )
    if sampler.wanted and config.on_shortfall == "raise":
        raise RuntimeError(describe_shortfall(sampler, config))


def describe_shortfall(sampler: DynamicSampler, config: DAPOConfig) -> str:
    """One line: how many groups were informative, why others were not, and the way out.

    Args:
        sampler: Dynamic sampling at its end.
        config: The algorithm's configuration.
    """
    reasons = ", ".join(f"{count} {reason}" for reason, count in sampler.decisions.items())
    too_long = _too_long(sampler, config)
    raised = "Raise "
    if too_long:
        raised += (
            f"rollout.max_prompt_tokens={config.max_prompt_tokens} (prompts that do not fit have "
            f"{min(too_long)} to {max(too_long)} tokens), "
        )
    missing = next((group.missing_reason for group in sampler.seen if group.missing_reason), "")
    if missing and all(math.isnan(reward) for group in sampler.seen for reward in group.rewards):
        return (
            f"no response got a verdict in {_rounds(sampler)} rounds ({reasons}); "
            f"the first reason: {missing}"
        )

    if missing:
        reasons = f"{reasons}; the first missing verdict: {missing}"
    return (
        f"{len(sampler.accepted)} of {config.prompts_per_step} groups were informative after "
        f"{_rounds(sampler)} rounds ({reasons}). {raised}"
        f"dynamic_sampling.max_rounds={config.max_rounds} or "
        f"training.group_size={config.group_size}, or give problems nearer to what the model can do"
    )


def _too_long(sampler: DynamicSampler, config: DAPOConfig) -> list[int]:
    """Lengths of the prompts that were not sampled for it, in tokens."""
    limit = config.max_prompt_tokens
    return [g.prompt_tokens for g in sampler.seen if not g.rewards and g.prompt_tokens > limit]


def _rounds(sampler: DynamicSampler) -> str:
    return f"{round(sampler.rounds, 1):g}"
