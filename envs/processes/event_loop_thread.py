"""An event loop in a thread of its own, for whatever waits for the network."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class _LoopThread:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # It ends with the process: nothing that it waits for may keep that from ending.
                thread = threading.Thread(
                    target=self._loop.run_forever, name="event-loop", daemon=True
                )
                thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def run_in_loop(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Has the one event loop of this process do something, beside all else that it does."""
    return _thread.run(work)


def _after_fork() -> None:
    # A forked copy of this process has none of its threads.
    global _thread
    _thread = _LoopThread()


_thread = _LoopThread()
os.register_at_fork(after_in_child=_after_fork)
