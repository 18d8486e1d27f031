"""EnvRunners and a source of batches, as `DAPO` has them, without an algorithm around them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo import DAPOConfig
from rllib_dapo.rollout.batch_source import BatchSource
from rllib_dapo.rollout.make_stream import make_stream
from rllib_dapo.rollout.prompt_place import PromptPlace


@contextmanager
def running(config: DAPOConfig) -> Iterator[EnvRunnerGroup]:
    """Starts EnvRunners, and ends them.

    Args:
        config: Says which, and how many.
    """
    group = EnvRunnerGroup(config=config, local_env_runner=False)
    try:
        yield group
    finally:
        group.stop()


def batch_source(env_runners: EnvRunnerGroup, config: DAPOConfig) -> BatchSource:
    """Fills batches of groups from EnvRunners that nobody restarts.

    Args:
        env_runners: The EnvRunners.
        config: Their configuration.
    """
    return BatchSource(
        make_stream(env_runners, config, lambda: None),
        PromptPlace(config),
        config,
        restore_env_runners=lambda: None,
        was_restarted=lambda: False,
    )
