"""As many copies of an environment as there are episodes under way."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import gymnasium as gym


class EnvironmentSupply:
    """Lends environments, and makes one where none is at rest.

    Where every episode is one step, the first environment is all there ever is. An environment that
    answers back is held for the length of an episode, so there will be one for each response that
    is under way. One that is costly to make (it holds a data set, say) may have a method ``fork()``
    that returns another one for an episode of its own.
    """

    def __init__(
        self, first: gym.Env[Any, Any], *, make: Callable[[int], gym.Env[Any, Any]]
    ) -> None:
        """Begins with one environment.

        Args:
            first: The one there is.
            make: Makes another one, given how many there are.
        """
        self._make = make
        self._all = [first]
        self._at_rest = [first]
        self._lock = Lock()

    @property
    def first(self) -> gym.Env[Any, Any]:
        """The environment that was there first."""
        return self._all[0]

    def take(self) -> gym.Env[Any, Any]:
        """Lends an environment, in whatever state; any thread may ask."""
        with self._lock:
            if self._at_rest:
                return self._at_rest.pop()
            # A wrapper knows nothing of a copy of what it wraps, so only a bare environment is
            # asked for one.
            fork = getattr(self.first, "fork", None) if self.first.unwrapped is self.first else None
            env = fork() if fork is not None else self._make(len(self._all))
            self._all.append(env)
            return env

    def give_back(self, env: gym.Env[Any, Any]) -> None:
        """Takes an environment back."""
        with self._lock:
            self._at_rest.append(env)

    def close(self) -> None:
        """Closes all environments."""
        for env in reversed(self._all):
            env.close()
