"""How many episodes have an environment at a time, where each takes a process."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from threading import Lock


class EnvironmentPlaces:
    """Places for episodes; one that finds none begins when there is one, and no thread waits.

    A place whose environment is overdue counts as free, so that others need not wait for it: at
    most twice as many are taken then. Safe to use from any thread.
    """

    def __init__(self, most: int | None) -> None:
        """Makes free places.

        Args:
            most: How many there are; None: as many as are wanted.
        """
        self._most = most
        self._lock = Lock()
        self._taken = self._overdue = 0
        self._waiting: dict[Hashable, Callable[[], None]] = {}

    def take(self, key: Hashable, begin: Callable[[], None]) -> None:
        """Takes a place.

        Args:
            key: Who takes it, see `forget`.
            begin: Is called once a place is taken, here or in a thread that gives one back. It must
                neither wait nor raise.
        """
        with self._lock:
            self._waiting[key] = begin
        self._admit()

    def forget(self, key: Hashable) -> bool:
        """Takes somebody out of those who wait.

        Returns:
            Whether they did; if not, they have begun, and the place has to be given back.
        """
        with self._lock:
            return self._waiting.pop(key, None) is not None

    def give_back(self) -> None:
        """Frees a place."""
        with self._lock:
            self._taken -= 1
        self._admit()

    @contextmanager
    def while_overdue(self) -> Iterator[None]:
        """Counts a place as free, while its environment takes unusually long."""
        with self._lock:
            self._overdue += 1
        self._admit()
        try:
            yield
        finally:
            with self._lock:
                self._overdue -= 1

    def _admit(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or not self._has_room():
                    return
                begin = self._waiting.pop(next(iter(self._waiting)))
                self._taken += 1
            begin()

    def _has_room(self) -> bool:
        if self._most is None:
            return True
        return self._taken - self._overdue < self._most and self._taken < 2 * self._most
