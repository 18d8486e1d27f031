"""Progress of what mostly takes a moment, and sometimes long."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 2.0


class PatientLines:
    """Passes lines on once it has taken a while, and then not too many of them."""

    def __init__(self, say: Callable[[str], None], *, patience_s: float = PATIENCE_S) -> None:
        """Starts the clock.

        Args:
            say: Prints a line.
            patience_s: How long nothing is said, at the start and between lines.
        """
        self._say = say
        self._patience_s = patience_s
        self._last = time.monotonic()

    def __call__(self, line: str) -> None:
        """Prints a line if it is time."""
        if time.monotonic() - self._last >= self._patience_s:
            self._say(line)
            self._last = time.monotonic()
