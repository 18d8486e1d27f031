"""Spreads work over a minute."""

from __future__ import annotations

import asyncio

_LOOK_SECONDS = 0.1


class Pacer:
    """Lets no more than an amount through in a minute, evenly and in the order of asking.

    Unlike a bucket of tokens it allows no burst at the beginning, so no minute has more than its
    share but for the last request. It belongs to one event loop.
    """

    def __init__(self, per_minute: float | None) -> None:
        """Begins with nothing used.

        Args:
            per_minute: The amount; None: all that is asked for.
        """
        self._seconds_each = None if per_minute is None else 60.0 / per_minute
        self._free_at = 0.0
        self._turn = asyncio.Lock()

    async def take(self, amount: float) -> None:
        """Waits until so much may be used."""
        if self._seconds_each is None:
            return
        now = asyncio.get_running_loop().time
        async with self._turn:
            # What is given back meanwhile makes the wait shorter.
            while (wait := self._free_at - now()) > 0:
                await asyncio.sleep(min(wait, _LOOK_SECONDS))
            self._free_at = max(self._free_at, now()) + amount * self._seconds_each

    def give_back(self, amount: float) -> None:
        """Corrects what was taken; a negative amount has been used beyond it."""
        if self._seconds_each is not None:
            self._free_at -= amount * self._seconds_each
