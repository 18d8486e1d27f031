"""Progress of work that usually takes a moment, and sometimes long."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 2.0


class DelayedLines:
    """Passes lines on only once the work has taken a while, and then not too many of them."""

    def __init__(self, say: Callable[[str], None], *, patience_s: float = PATIENCE_S) -> None:
        """Starts the clock.

        Args:
            say: Function that prints a line.
            patience_s: Seconds of silence at the start and after each line.
        """
        self._say = say
        self._patience_s = patience_s
        self._last_time = time.monotonic()

    def __call__(self, line: str) -> None:
        """Prints a line if it is time, and drops it if not."""
        if time.monotonic() - self._last_time >= self._patience_s:
            self._say(line)
            self._last_time = time.monotonic()
