"""From the setting `environment.env` to an environment, here or in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from ray.rllib.env.env_context import EnvContext

import rllib_dapo.envs  # noqa: F401  (registers the environments in this process)
from rllib_dapo.envs.hosts.construction import construct
from rllib_dapo.envs.hosts.environment_service import Recipe
from rllib_dapo.envs.hosts.host_settings import take_host_settings
from rllib_dapo.envs.hosts.hosted_env import HostedEnv
from rllib_dapo.ray_internals import tune_env_creator

_CONTEXT = ("worker_index", "vector_index", "num_workers")


def environment_name(env: Any) -> str:
    """Returns what an environment is called in messages."""
    if isinstance(env, str):
        return env
    name = getattr(env, "__qualname__", type(env).__name__)
    return f"{getattr(env, '__module__', type(env).__module__)}:{name}"


def is_tune_name(env: Any) -> bool:
    """Whether `env` is a name that was registered with `tune.register_env`."""
    return isinstance(env, str) and tune_env_creator(env) is not None


def make_environment(env: Any, env_config: Mapping[str, Any]) -> gym.Env[Any, Any]:
    """Makes an environment.

    With `verify_in="process"` among the settings it is a `HostedEnv`, unless it scores in processes
    by itself, see `take_host_settings`.

    Args:
        env: A name registered with Tune, a Gymnasium id, or a class or another callable that makes
            it, as in `DAPOConfig.environment`.
        env_config: Settings of the environment. On an EnvRunner this is an `EnvContext`, which also
            holds the EnvRunner's index.

    Raises:
        ValueError: If a setting is refused, or has no argument of its name.
    """
    settings, own = take_host_settings(env, env_config)
    if settings is not None:
        return HostedEnv(make_recipe(env, own, env_config), settings)

    creator = tune_env_creator(env) if isinstance(env, str) else None
    if creator is None and isinstance(env, str):
        return gym.make(env, **own)
    config = _with_context(own, env_config)
    if creator is not None:
        made: gym.Env[Any, Any] = creator(config)
        return made
    return construct(env, config)


def make_recipe(
    env: Any, own: Mapping[str, Any], env_config: Mapping[str, Any] | None = None
) -> Recipe:
    """Returns how an environment is made in another process.

    Args:
        env: As `make_environment` takes it.
        own: The environment's own settings, without those that say where it runs.
        env_config: What they were taken from; where it is an `EnvContext`, what that says beside
            the settings goes with them.
    """
    context = {name: getattr(env_config, name, 0) or 0 for name in _CONTEXT}
    creator = tune_env_creator(env) if isinstance(env, str) else None
    if creator is not None:
        return Recipe(env=creator, takes_mapping=True, config=dict(own), context=context)

    # An id of a user's is registered in this process only; its specification can travel.
    specification = gym.spec(env) if isinstance(env, str) else env
    return Recipe(env=specification, config=dict(own), context=context)


def _with_context(own: dict[str, Any], env_config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the settings in the kind of mapping that they came in."""
    if not isinstance(env_config, EnvContext):
        return own
    return EnvContext(
        own,
        worker_index=env_config.worker_index,
        vector_index=env_config.vector_index,
        remote=env_config.remote,
        num_workers=env_config.num_workers,
        recreated_worker=env_config.recreated_worker,
    )
