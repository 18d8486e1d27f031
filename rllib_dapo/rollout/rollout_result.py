"""What an EnvRunner brings back to the driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rllib_dapo.core.types import GroupSummary, PromptGroup
from rllib_dapo.rollout.group_so_far import GroupSoFar
from rllib_dapo.stored_group import StoredGroup, StoredTokens, store_group


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledGroup:
    """A group as the driver holds it.

    Attributes:
        summary: Lengths, rewards and verdicts: all that the driver decides on.
        data: The group with its tokens, packed where it is small, or what refers to it in Ray's
            object store.
    """

    summary: GroupSummary
    data: StoredGroup | PromptGroup

    @classmethod
    def of(cls, group: PromptGroup, *, stays_here: bool, cut: bool) -> SampledGroup:
        """Leaves a group in the object store, unless it is small.

        Args:
            group: The group.
            stays_here: Whether the driver is this process: then it is given the group itself.
            cut: Whether several Learners will fetch a part of it each.
        """
        data = group if stays_here else store_group(group, cut=cut)
        return cls(summary=group.summary(), data=data)

    def group(self) -> PromptGroup:
        """Returns the group itself, fetched from the object store if need be."""
        return self.data if isinstance(self.data, PromptGroup) else self.data.fetch()

    @property
    def tokens(self) -> StoredTokens | PromptGroup:
        """What Learners are given: references, or the group itself where it is here."""
        return self.data if isinstance(self.data, PromptGroup) else self.data.tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutResult:
    """What one call of a `TextEnvRunner` has brought.

    Attributes:
        groups: Groups that have ended: of `sample_groups` one per prompt seed, in their order.
        generation_seconds: Time spent in the engine.
        scoring_seconds: Time spent in environments, or waiting for them.
        under_way: By prompt seed, what is known of groups that have not ended.
        progress: Another number than before, if anything has happened since the call before.
        call: Number of the call of `TextEnvRunner.advance`.
        worker: Index of the EnvRunner.
        ended: When the call ended, in seconds since the epoch.
        logged: What the user's callbacks have logged since the call before, as RLlib's metrics.
    """

    groups: list[SampledGroup]
    generation_seconds: float
    scoring_seconds: float
    under_way: Mapping[int, GroupSoFar] = field(default_factory=dict)
    progress: int = 0
    call: int = 0
    worker: int = 0
    ended: float = 0.0
    logged: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutFailure:
    """Stands for a result where sampling raised.

    Attributes:
        traceback: The EnvRunner's traceback, as text.
        call: As in `RolloutResult`.
    """

    traceback: str
    call: int = 0
