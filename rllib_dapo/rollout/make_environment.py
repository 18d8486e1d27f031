"""From the setting `environment.env` to an environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

import rllib_dapo.envs  # noqa: F401  (registers the environments in this process)
from rllib_dapo.ray_internals import tune_env_creator


def is_tune_name(env: Any) -> bool:
    """Whether `env` is a name that was registered with `tune.register_env`."""
    return isinstance(env, str) and tune_env_creator(env) is not None


def make_environment(env: Any, env_config: Mapping[str, Any]) -> gym.Env[Any, Any]:
    """Makes an environment.

    Args:
        env: A name registered with Tune, a Gymnasium id or a class, as in `DAPOConfig.environment`.
        env_config: Settings of the environment. On an EnvRunner this is an `EnvContext`, which also
            holds the EnvRunner's index.
    """
    creator = tune_env_creator(env) if isinstance(env, str) else None
    if creator is not None:
        made: gym.Env[Any, Any] = creator(env_config)
        return made
    return gym.make(env, **env_config) if isinstance(env, str) else env(env_config)
