"""What an EnvRunner brings back to the driver."""

from __future__ import annotations

from dataclasses import dataclass

from rllib_dapo.core.types import GroupSummary, PromptGroup
from rllib_dapo.stored_group import StoredGroup, StoredTokens


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledGroup:
    """A group as the driver holds it.

    Attributes:
        summary: Lengths, rewards and verdicts: all that the driver decides on.
        data: The group with its tokens, or what refers to it in Ray's object store.
    """

    summary: GroupSummary
    data: StoredGroup | PromptGroup

    def group(self) -> PromptGroup:
        """Returns the group itself, fetched from the object store if need be."""
        return self.data if isinstance(self.data, PromptGroup) else self.data.fetch()

    @property
    def tokens(self) -> StoredTokens | PromptGroup:
        """What Learners are given: references, or the group itself where it is here."""
        return self.data if isinstance(self.data, PromptGroup) else self.data.tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutResult:
    """The groups of one call of `TextEnvRunner.sample_groups`.

    Attributes:
        groups: One group per prompt seed, in the order of the seeds.
        generation_seconds: Time spent in the engine.
        scoring_seconds: Time spent in environments, or waiting for them.
    """

    groups: list[SampledGroup]
    generation_seconds: float
    scoring_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutFailure:
    """Stands for a result where sampling raised.

    Attributes:
        traceback: The EnvRunner's traceback, as text.
    """

    traceback: str
