"""From the setting `environment.env` to an environment that can be tried before anything starts."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
from ray import tune

from rllib_dapo.envs import Problem
from rllib_dapo.envs.hosts.construction import construct
from rllib_dapo.envs.hosts.outcomes import read_reset
from rllib_dapo.findings import SettingsError, one_line, suggest
from rllib_dapo.rollout.environment_pool import close_quietly
from rllib_dapo.rollout.make_environment import is_tune_name, make_environment


def resolve_environment(env: Any) -> Any:
    """Finds what `environment.env` names.

    Args:
        env: A Gymnasium id, a name known to Tune, `module:Class`, or `module:id` where importing
            the module registers the id. A class is returned as it is.

    Returns:
        What `DAPOConfig.environment` takes: a registered name or a class.

    Raises:
        SettingsError: If there is no such environment.
    """
    if not isinstance(env, str) or env in gymnasium.registry or is_tune_name(env):
        return env

    module_name, colon, name = env.partition(":")
    if not colon:
        known = [known for known in gymnasium.registry if known.startswith("rllib_dapo/")]
        near = suggest(env, known) or f"; there are {', '.join(known)}"
        raise SettingsError(
            f"environment.env={env!r}: no such environment{near} (one of your own: module:Class)"
        )

    module = _import(env, module_name)
    if name in gymnasium.registry:
        tune.register_env(env, lambda config: gymnasium.make(f"{module_name}:{name}", **config))
        return env
    made_by = getattr(module, name, None)
    if not callable(made_by):
        near = suggest(name, vars(module))
        raise SettingsError(
            f"environment.env={env!r}: module {module_name} has no class {name!r}{near}"
        )
    if isinstance(made_by, type):
        return made_by
    # RLlib takes a class or a name, and this is a function that makes the environment.
    tune.register_env(env, lambda config: construct(made_by, config))
    return env


def try_environment(
    env: Any, env_config: Mapping[str, Any], *, setting: str = "environment.env_config"
) -> tuple[Problem, ...]:
    """Makes the environment once, resets it and closes it.

    Args:
        env: What `resolve_environment` returned.
        env_config: Settings of the environment.
        setting: Name of these settings, for messages.

    Returns:
        All problems that it has, where it lists them: its attribute `problems`.

    Raises:
        SettingsError: If that fails, or if what it observes is not a prompt.
    """
    # A user's environment may raise anything; one line is better than a traceback.
    try:
        made = make_environment(env, env_config)
        try:
            read_reset(made.reset(seed=0))
            problems = _listed_problems(made)
        finally:
            close_quietly(made)
    except (Exception, SystemExit) as error:
        is_told = isinstance(error, ValueError | FileNotFoundError)
        kind = "" if is_told else f"{type(error).__name__}: "
        raise SettingsError(f"{setting} of {_name(env)}: {kind}{one_line(error)}") from error

    return problems


def _listed_problems(env: Any) -> tuple[Problem, ...]:
    problems = getattr(getattr(env, "unwrapped", env), "problems", ())
    is_list = isinstance(problems, list | tuple)
    if not is_list or not all(isinstance(problem, Problem) for problem in problems):
        return ()
    return tuple(problems)


def _import(env: str, module_name: str) -> Any:
    """Imports a user's module, also from the current folder, unlike a console script."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        cause = f"{type(error).__name__}: {one_line(error)}"
        raise SettingsError(
            f"environment.env={env!r}: module {module_name} cannot be imported: {cause}"
        ) from error


def _name(env: Any) -> str:
    return env if isinstance(env, str) else f"{env.__module__}:{env.__qualname__}"
