"""What may become of the groups under way, counted by what is known of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """What is known of a group under way, as far as it says whether it will be accepted.

    Attributes:
        known: Number of verdicts. They agree, unless `is_sure`.
        total: Number of verdicts that there will be.
        is_sure: Whether it will be accepted, whatever the others are.
    """

    known: int = 0
    total: int = 0
    is_sure: bool = False


UNKNOWN = Outlook()  # not even whether it is sampled or skipped
SURE = Outlook(is_sure=True)


class Outlooks:
    """The outlook of every group under way; there are few different ones, however many groups.

    Attributes:
        counts: How many groups have an outlook.
    """

    def __init__(self) -> None:
        """Nothing is under way."""
        self._of: dict[int, Outlook] = {}
        self.counts: Counter[Outlook] = Counter()

    def __len__(self) -> int:
        """Number of groups under way."""
        return len(self._of)

    def __contains__(self, seed: int) -> bool:
        """Whether the group of a seed is under way."""
        return seed in self._of

    def of(self, seed: int) -> Outlook | None:
        """The outlook of a group; None if it is not under way."""
        return self._of.get(seed)

    def note(self, seed: int, outlook: Outlook) -> None:
        """Begins with a group, or goes on with it."""
        self.end(seed)
        self._of[seed] = outlook
        self.counts[outlook] += 1

    def end(self, seed: int) -> bool:
        """Ends a group; returns whether it was under way."""
        outlook = self._of.pop(seed, None)
        if outlook is None:
            return False
        self.counts[outlook] -= 1
        if not self.counts[outlook]:
            del self.counts[outlook]
        return True
