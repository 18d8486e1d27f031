"""From settings to what decides on groups, and to what brings them from EnvRunners."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
from rllib_dapo.rollout.rollout_requests import RolloutRequests
from rllib_dapo.rollout.rollout_stream import RolloutStream, groups_in_flight

if TYPE_CHECKING:
    from ray.rllib.env.env_runner_group import EnvRunnerGroup

    from rllib_dapo.config.dapo_config import DAPOConfig


def make_sampler(config: DAPOConfig, *, next_seed: int, acceptance_rate: float) -> DynamicSampler:
    """Makes what decides on the groups of a step.

    Args:
        config: The algorithm's configuration.
        next_seed: First prompt seed of the step.
        acceptance_rate: Share of groups that were accepted in the step before.
    """
    return DynamicSampler(
        prompts_per_step=config.prompts_per_step,
        next_seed=next_seed,
        dynamic_sampling=config.dynamic_sampling_enabled,
        max_rounds=config.max_rounds,
        max_oversampling=config.max_oversampling,
        acceptance_rate=acceptance_rate,
        min_verdicts=1 if config.has_critic else 2,
    )


def make_stream(
    group: EnvRunnerGroup, config: DAPOConfig, restore_env_runners: Callable[[], None]
) -> RolloutStream:
    """Makes what brings training's groups, one by one.

    Args:
        group: The EnvRunners.
        config: The algorithm's configuration.
        restore_env_runners: Brings restarted EnvRunners back, with the current weights.
    """
    return RolloutStream(
        group,
        max_groups_in_flight=groups_in_flight(
            max_groups_in_flight=config.max_groups_in_flight,
            max_concurrent_responses=config.max_concurrent_responses,
            group_size=config.group_size,
        ),
        group_size=config.group_size,
        timeout_seconds=config.sample_timeout_s,
        restore_env_runners=restore_env_runners,
    )


def make_requests(
    group: EnvRunnerGroup,
    config: DAPOConfig,
    restore_env_runners: Callable[[], None],
    **options: Any,
) -> RolloutRequests:
    """Makes what brings evaluation's groups, in requests that do not depend on one another.

    Args:
        group: The EnvRunners.
        config: The algorithm's configuration.
        restore_env_runners: As for `make_stream`.
        **options: Further arguments of `RolloutRequests`.
    """
    return RolloutRequests(
        group,
        max_groups_in_flight=config.max_groups_in_flight,
        timeout_seconds=config.sample_timeout_s,
        restore_env_runners=restore_env_runners,
        **options,
    )
