"""Ends a process whose work makes no progress any more, and says what it hung at.

Whoever waits for an actor cannot tell a long answer from a hang. The actor's own process can: a
thread looks at a counter that changes as long as anything happens. Ray takes a process that has
ended for what it is, starts it anew or fails the trial.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import ray

logger = logging.getLogger(__name__)

# How often a counter is looked at, at least that many times within the limit.
LOOK_SECONDS, LOOKS = 1.0, 8


class StallWatchdog:
    """Watches one piece of work at a time."""

    def __init__(self, limit_seconds: float | None) -> None:
        """Watches nothing yet.

        Args:
            limit_seconds: Longest time without progress; None means no limit.
        """
        self._limit = limit_seconds

    @contextmanager
    def watching(
        self, progress: Callable[[], object], describe: Callable[[float], str]
    ) -> Iterator[None]:
        """Watches what is done in the block.

        Where it stalls in a Ray actor, the process ends. In a process that is somebody's own, a
        warning is all.

        Args:
            progress: Returns another value than before if there was progress.
            describe: One line, given the seconds without any.
        """
        if self._limit is None:
            yield
            return

        has_ended = Event()
        thread = Thread(
            target=self._watch, args=(progress, describe, has_ended), name="watchdog", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            has_ended.set()
            thread.join()

    def _watch(
        self, progress: Callable[[], object], describe: Callable[[float], str], has_ended: Event
    ) -> None:
        assert self._limit is not None
        seen, since = progress(), time.monotonic()
        while not has_ended.wait(min(LOOK_SECONDS, self._limit / LOOKS)):
            if (now := progress()) != seen:
                seen, since = now, time.monotonic()
            elif (seconds := time.monotonic() - since) > self._limit:
                _end(describe(seconds))
                return


def _end(line: str) -> None:
    if ray.get_runtime_context().get_actor_id() is None:
        logger.warning(line)
        return
    try:
        faulthandler.dump_traceback(sys.stderr)  # where it hangs
        # As an exception is printed: a run that has failed shows the first line of this kind.
        sys.stderr.write(f"RuntimeError: {line}\n")
        sys.stderr.flush()
    finally:
        os._exit(1)
