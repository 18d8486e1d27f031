"""As many copies of an environment as there are episodes under way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from threading import Lock
from typing import Any

import gymnasium as gym

from rllib_dapo.envs.hosts.hosted_env import HostedEnv

logger = logging.getLogger(__name__)


class EnvironmentPool:
    """Lends environments to episodes, and makes another one where none is free.

    Where every episode takes one step, the first environment is the only one ever needed. For
    episodes of several steps, an environment is lent for the length of an episode, so there will be
    one for each response that is under way. An environment that is costly to make (because it holds
    a data set, say) may have a method `fork()` that returns another one for an episode of its own.
    """

    def __init__(
        self, first: gym.Env[Any, Any], *, make: Callable[[int], gym.Env[Any, Any]]
    ) -> None:
        """Starts a pool of one environment.

        Args:
            first: The first environment.
            make: Makes another environment, given the number of those that exist.
        """
        self._make = make
        self._all = [first]
        self._free = [first]
        self._num_made = 1
        self._lock = Lock()
        # A user's constructor need not be safe to run twice at a time, but processes start side by
        # side.
        self._making = nullcontext() if isinstance(first, HostedEnv) else Lock()

    @property
    def first(self) -> gym.Env[Any, Any]:
        """The environment that the pool started with."""
        return self._all[0]

    def acquire(self) -> gym.Env[Any, Any]:
        """Lends an environment, which the caller has to reset. Safe to call from any thread.

        Raises:
            Exception: Whatever making an environment raises.
        """
        with self._lock:
            if self._free:
                return self._free.pop()
            number, self._num_made = self._num_made, self._num_made + 1

        # A wrapper does not know how to wrap a copy of its environment, so only a bare environment
        # is asked for one.
        fork = getattr(self.first, "fork", None) if self.first.unwrapped is self.first else None
        with self._making:
            env: gym.Env[Any, Any] = fork() if fork is not None else self._make(number)
        with self._lock:
            self._all.append(env)
        return env

    def release(self, env: gym.Env[Any, Any]) -> None:
        """Takes an environment back."""
        with self._lock:
            self._free.append(env)

    def close(self) -> None:
        """Closes all environments, lent ones included; one that raises does not stop the others."""
        for env in reversed(self._all):
            close_quietly(env)


def close_quietly(env: gym.Env[Any, Any]) -> None:
    """Closes an environment; what it raises is told and goes no further."""
    try:
        env.close()
    except (Exception, SystemExit):
        logger.warning("an environment raised while it was closed", exc_info=True)
