"""An environment of one step that poses and scores the problems of another environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from rllib_dapo.envs.base import SingleStepTextEnv
from rllib_dapo.envs.turns import Turn


def make_single_step_env(name: Any, config: Any) -> SingleStepTextEnv:
    """Makes the environment that the settings `problems` and `problem_config` name.

    Args:
        name: Id of an environment that is derived from `SingleStepTextEnv`.
        config: Its settings by name; None: it has none.

    Raises:
        ValueError: If one of the two is refused, by this function or by the environment.
    """
    if not isinstance(name, str):
        raise ValueError(
            f"problems={name!r}: must be the id of an environment, "
            "such as 'rllib_dapo/Arithmetic-v0'"
        )
    if not isinstance(config or {}, Mapping):
        raise ValueError(
            f"problem_config={config!r}: must be a mapping from setting names to values"
        )

    try:
        env = gymnasium.make(name, **(config or {})).unwrapped
    except gymnasium.error.Error as error:
        raise ValueError(f"problems={name!r}: {error}") from error
    if not isinstance(env, SingleStepTextEnv):
        raise ValueError(
            f"problems={name!r}: must be an environment of one step, derived from SingleStepTextEnv"
        )
    return env


def scored_turn(env: SingleStepTextEnv, seed: int, response: str) -> Turn:
    """Has the environment score a final answer, and returns that as the last turn of an episode.

    Args:
        env: From `make_single_step_env`.
        seed: The problem's seed.
        response: The answer; untrusted text.
    """
    reward, info = env.collect(env.submit(seed, response))
    reason = info.pop("missing_reason", "")
    return Turn(
        reward=None if reason else reward,
        is_correct=info.pop("is_correct", None),
        reason=reason,
        info=info,
    )
