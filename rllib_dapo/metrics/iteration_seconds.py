"""What the parts of one iteration took, in seconds of this iteration alone.

RLlib's own timers (`timers/...` in results) are moving averages that forget a hundredth with each
iteration, so the first one still shows after hundreds. These are not averaged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

SECONDS: Literal["seconds"] = "seconds"  # key of a result
IterationPart = Literal["sampling", "update", "weight_sync", "evaluation"]  # keys below it


class IterationClock:
    """Adds up the time that an iteration spends in each of its parts.

    Attributes:
        seconds: Time in each part.
        spans: Each stretch of it: the part, its beginning and its end in seconds since the epoch.
    """

    def __init__(self) -> None:
        """Nothing has been measured yet."""
        self.seconds: dict[str, float] = dict.fromkeys(get_args(IterationPart), 0.0)
        self.spans: list[tuple[str, float, float]] = []

    @contextmanager
    def measure(self, part: IterationPart) -> Iterator[None]:
        """Adds the time until the end of the block, even if an error ends it.

        Args:
            part: Part of the iteration.
        """
        began, started = time.time(), time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self.seconds[part] += seconds
            self.spans.append((part, began, began + seconds))
