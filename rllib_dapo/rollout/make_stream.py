"""From settings to what brings groups from EnvRunners, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rllib_dapo.rollout.rollout_requests import RolloutRequests
from rllib_dapo.rollout.rollout_stream import RolloutStream

if TYPE_CHECKING:
    from ray.rllib.env.env_runner_group import EnvRunnerGroup

    from rllib_dapo.config.dapo_config import DAPOConfig


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
        max_groups_in_flight=config.max_groups_in_flight,
        max_concurrent_responses=config.max_concurrent_responses,
        group_size=config.group_size,
        timeout_seconds=config.sample_timeout_s,
        stall_seconds=config.stall_seconds,
        may_restart=config.restart_failed_env_runners,
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
