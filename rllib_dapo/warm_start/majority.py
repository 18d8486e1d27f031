"""Whether the majority of a model's samples supports the answer that a record has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Decision = Literal[
    "kept", "outvoted", "too little agreement", "no answer", "no verdict", "prompt too long"
]
DECISIONS: tuple[Decision, ...] = get_args(Decision)


@dataclass(frozen=True, kw_only=True, slots=True)
class Vote:
    """What one sample says.

    Attributes:
        is_correct: Whether its answer is the record's; None without a verdict.
        prediction: Its answer; empty if it has none.
    """

    is_correct: bool | None
    prediction: str


def decide(votes: Sequence[Vote], *, num_samples: int, threshold: float) -> Decision:
    """Decides on a record: `c >= threshold n` and `c > m` keep it.

    `c` of the `n` samples give the record's answer, however they write it, and `m` the most
    frequent other one. A sample without a verdict is not a vote against the answer: a record whose
    fate it could change has no verdict itself.

    Args:
        votes: The samples; none where nothing was sampled.
        num_samples: `n`.
        threshold: Least share of the samples that must give the record's answer.
    """
    if not votes:
        return "prompt too long"

    correct = sum(vote.is_correct is True for vote in votes)
    missing = num_samples - sum(vote.is_correct is not None for vote in votes)
    others = Counter(vote.prediction for vote in votes if vote.is_correct is False)
    del others[""]  # a response without an answer votes for none
    rival = max(others.values(), default=0)

    if correct >= threshold * num_samples and correct > rival + missing:
        return "kept"
    if correct + missing >= threshold * num_samples and correct + missing > rival:
        return "no verdict"
    if rival >= correct and rival:
        return "outvoted"
    return "too little agreement" if correct or rival else "no answer"
