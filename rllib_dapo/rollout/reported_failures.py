"""Exceptions of an EnvRunner that reach the driver as values.

If one were raised in the actor, RLlib would take the actor for dead. It would restart the EnvRunner
and its engine and send the same prompts again, and the cause would only stand in a log.

That is right for one error alone: where a process of the engine has died, the prompts are not to
blame, and a new engine is needed.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

from rllib_dapo.rollout.engine import EngineDiedError
from rllib_dapo.rollout.engine_death import end_with_engine
from rllib_dapo.rollout.rollout_result import RolloutFailure


def or_failure(method: Callable[..., Any]) -> Callable[..., Any]:
    """Makes of a `TextEnvRunner`'s method one that returns a `RolloutFailure` where it raises.

    Args:
        method: Any method of a `TextEnvRunner`; one of the same name in a subclass is called.
    """

    @wraps(method)
    def attempt(runner: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return getattr(runner, method.__name__)(*args, **kwargs)
        except Exception as error:
            if isinstance(error, EngineDiedError):
                end_with_engine(runner, error)  # where it returns, nobody would start it anew
            return RolloutFailure(traceback=traceback.format_exc(), call=kwargs.get("call", 0))

    return attempt
