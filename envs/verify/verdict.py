"""What a scorer says of one response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class VerdictKind(StrEnum):
    """What kinds of verdicts there are."""

    CORRECT = "correct"
    WRONG = "wrong"
    MISSING = "missing"
    GRADED = "graded"  # a reward, without a notion of correct and wrong


class MissingReason(StrEnum):
    """The first words of a missing verdict's reason, where scoring itself failed."""

    TIMEOUT = "timeout"
    CRASH = "crash"
    TOO_LONG = "too long"
    RATE_LIMITED = "rate limited"  # a judge over the network: asked for too much at a time
    UNREACHABLE = "unreachable"  # it did not answer, or failed itself
    UNREADABLE = "unreadable"  # it answered what is no verdict
    NOT_SEEDED = "not seeded"  # the environment posed another problem than the prompt's


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a scorer thinks of one response.

    Attributes:
        is_correct: Whether the response solves the problem. None: the scorer could not tell, or, if
            a reward is given, the environment only grades.
        reward: Reward in place of +1 (correct) or -1 (wrong), the DAPO paper's Eq. 7.
        prediction: The answer found in the response, in a form in which equal answers are equal
            texts.
        reason: Why there is no verdict, or what was wrong, in one line. See `missing`.
        components: Parts of the reward by name, for the record.
        metrics: Other figures by name, whose means a run reports.
    """

    is_correct: bool | None
    reward: float | None = None
    prediction: str = ""
    reason: str = ""
    components: Mapping[str, float] = field(default_factory=dict, hash=False)
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def kind(self) -> VerdictKind:
        """Which of the four kinds this is."""
        if self.is_correct is None:
            return VerdictKind.MISSING if self.reward is None else VerdictKind.GRADED
        return VerdictKind.CORRECT if self.is_correct else VerdictKind.WRONG


def missing(reason: MissingReason, detail: str) -> Verdict:
    """Returns the verdict of a scorer that failed.

    Its reason is `timeout: ...`, `crash: ...` or `too long: ...`.
    """
    return Verdict(is_correct=None, reason=f"{reason}: {detail}")
