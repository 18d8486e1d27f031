"""What is known of a group before all of its responses have ended."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupSoFar:
    """A group under way, by its responses that have ended.

    Attributes:
        rewards: Their raw rewards; NaN where a verdict is missing.
        is_correct: Their verdicts; None where the environment does not say.
        unfinished: How many responses go on.
    """

    rewards: tuple[float, ...]
    is_correct: tuple[bool | None, ...]
    unfinished: int

    @property
    def num_known(self) -> int:
        """Number of verdicts."""
        return sum(not math.isnan(reward) for reward in self.rewards)
