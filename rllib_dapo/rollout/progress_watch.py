"""Tells a long answer from a hang: by the time in which nothing at all has happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection


def stalled(who: str, seconds: float, seeds: Collection[int]) -> str:
    """What hangs, in words.

    Args:
        who: Name of an EnvRunner.
        seconds: Time without progress.
        seeds: Prompt seeds that are under way there.
    """
    return (
        f"{who} has made no progress for {seconds:.0f} s, no token and no verdict: its engine "
        f"hangs, or the environment with one of the prompts {sorted(seeds)[:8]}"
    )


class ProgressWatch:
    """Watches counters that change as long as somebody makes progress.

    Attributes:
        limit_seconds: Longest time without progress; None means no limit.
    """

    def __init__(
        self, limit_seconds: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Watches nobody yet.

        Args:
            limit_seconds: Longest time without progress; None means no limit.
            clock: Tells the time in seconds.
        """
        self.limit_seconds = limit_seconds
        self._clock = clock
        self._seen: dict[int, tuple[int | None, float]] = {}  # counter, and when it changed last

    def keep(self, at_work: Collection[int]) -> None:
        """Watches those that are at work, from now on where they were idle before."""
        now = self._clock()
        self._seen = {worker: self._seen.get(worker, (None, now)) for worker in at_work}

    def note(self, worker: int, counter: int) -> None:
        """Takes a counter's value; that it is another one than before is progress."""
        if worker in self._seen and self._seen[worker][0] != counter:
            self._seen[worker] = (counter, self._clock())

    def forget(self, worker: int) -> None:
        """Begins anew with one that has been told of."""
        self._seen.pop(worker, None)

    def hanging(self) -> dict[int, float]:
        """Those that have made no progress for too long, and for how many seconds."""
        if self.limit_seconds is None:
            return {}
        now = self._clock()
        idle = {worker: now - since for worker, (_, since) in self._seen.items()}
        return {worker: seconds for worker, seconds in idle.items() if seconds > self.limit_seconds}
