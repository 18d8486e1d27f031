"""Threads that do not keep their process from ending."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_SECONDS = 10.0


@dataclass(kw_only=True, eq=False)
class _Crew:
    """Threads and what they are to do; `None` in the queue ends one."""

    queue: SimpleQueue[Callable[[], None] | None] = field(default_factory=SimpleQueue)
    num_threads: int = 0
    num_idle: int = 0


class DaemonThreads:
    """As many threads as are needed, up to a number.

    Unlike those of a `ThreadPoolExecutor` they do not keep the process from ending: what hangs in
    one of them, such as a user's environment, cannot be stopped.
    """

    def __init__(self, most: int, *, name: str) -> None:
        """Starts no thread yet.

        Args:
            most: Largest number of threads.
            name: What the threads are called.
        """
        self._name = name
        self._most = most
        self._lock = Lock()
        self._crew = _Crew()

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Has a thread call a function, in the order of the calls of this method."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)

        with self._lock:
            crew = self._crew
            crew.queue.put(run)
            if crew.num_idle:
                crew.num_idle -= 1
            elif crew.num_threads < self._most:
                crew.num_threads += 1
                Thread(target=self._work, args=(crew,), name=self._name, daemon=True).start()
        return future

    def close(self, last: Callable[[], None] | None = None) -> None:
        """Ends the threads once they have done what was submitted; others start if need be.

        Args:
            last: What a thread does before. It is not waited for longer than some seconds, for it
                may hang.
        """
        if last is not None:
            try:
                self.submit(last).result(_CLOSE_SECONDS)
            except TimeoutError:
                logger.warning(
                    "%s: closing takes more than %g s; it is left behind",
                    self._name,
                    _CLOSE_SECONDS,
                )
        with self._lock:
            crew, self._crew = self._crew, _Crew()
            for _ in range(crew.num_threads):
                crew.queue.put(None)

    def _work(self, crew: _Crew) -> None:
        while (run := crew.queue.get()) is not None:
            run()
            del run
            with self._lock:
                crew.num_idle += 1
