"""The threads that run environments, beside the one that runs the engine."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CLOSE_SECONDS = 10.0


class EnvironmentThreads:
    """As many threads as are needed, up to a number.

    Unlike those of a `ThreadPoolExecutor` they do not keep the process from ending: an environment
    that hangs in one of them cannot be stopped.
    """

    def __init__(self, most: int) -> None:
        """Starts no thread yet.

        Args:
            most: Largest number of threads.
        """
        self._most = most
        self._num_threads = self._num_idle = 0
        self._lock = Lock()
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Has a thread call a function, in the order of the calls of this method."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)

        with self._lock:
            self._queue.put(run)
            if self._num_idle:
                self._num_idle -= 1
            elif self._num_threads < self._most:
                self._num_threads += 1
                Thread(target=self._work, name="environment", daemon=True).start()
        return future

    def close(self, last: Callable[[], None] | None = None) -> None:
        """Ends the threads once they have done what was submitted.

        Args:
            last: What a thread does before. It is not waited for longer than some seconds, for an
                environment may hang.
        """
        if last is not None:
            try:
                self.submit(last).result(_CLOSE_SECONDS)
            except TimeoutError:
                logger.warning(
                    "the environment is not closed after %g s; it is left behind", _CLOSE_SECONDS
                )
        with self._lock:
            for _ in range(self._num_threads):
                self._queue.put(None)

    def _work(self) -> None:
        while True:
            run = self._queue.get()
            if run is None:
                return
            run()
            del run
            with self._lock:
                self._num_idle += 1
