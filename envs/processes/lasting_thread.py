"""A thread that lasts as long as this process, for starting child processes from.

Linux ends a child that asks for it (`PR_SET_PDEATHSIG`) with the thread that started it, not with
the whole process. Started from a thread that never ends, a child may be made by any thread, used
by any other, and still ends with this process, whatever ends that.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class _LastingThread:
    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_started = False

    def call(self, function: Callable[[], T]) -> T:
        with self._lock:
            if not self._is_started:
                self._is_started = True
                threading.Thread(target=self._run, name="process-starter", daemon=True).start()

        future: Future[T] = Future()
        self._queue.put((function, future))
        return future.result()

    def _run(self) -> None:
        while True:
            function, future = self._queue.get()
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
            del function, future


def call_in_lasting_thread(function: Callable[[], T]) -> T:
    """Calls a function in the thread that lasts, and returns or raises what it does."""
    return _thread.call(function)


def _after_fork() -> None:
    # A forked copy of this process has none of its threads.
    global _thread
    _thread = _LastingThread()


_thread = _LastingThread()
os.register_at_fork(after_in_child=_after_fork)
