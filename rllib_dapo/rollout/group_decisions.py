"""What becomes of a group of responses: the test of dynamic sampling (paper, Eq. 11)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import torch

from rllib_dapo.core.advantage import has_signal
from rllib_dapo.core.types import GroupSummary


class Decision(StrEnum):
    """What becomes of a group, and why."""

    ACCEPTED = "accepted"
    ALL_CORRECT = "all_correct"
    ALL_WRONG = "all_wrong"
    NO_SIGNAL = "no_signal"
    MISSING = "missing"
    PROMPT_TOO_LONG = "prompt_too_long"
    PROMPT_LOST = "prompt_lost"
    SKIPPED = "skipped"


# What dynamic sampling drops although all rewards are known.
WITHOUT_SIGNAL = (Decision.ALL_CORRECT, Decision.ALL_WRONG, Decision.NO_SIGNAL)


def decide(
    group: GroupSummary, *, dynamic_sampling: bool = True, min_verdicts: int = 2
) -> Decision:
    """Accepts a group if its responses differ in raw accuracy: `0 < number correct < G` (Eq. 11).

    Shaped rewards play no part: a length penalty must neither keep nor drop a group. Where the
    environment does not say what is correct, the raw rewards must differ by more than 1e-6. Missing
    verdicts are left out. A group with too few known rewards has no baseline and is dropped.

    Args:
        group: Summary of the group.
        dynamic_sampling: Whether to test the group. False accepts every group that can be trained
            on at all.
        min_verdicts: Number of known rewards that a group needs: two, or one where a critic gives
            the baseline.
    """
    if group.skipped:
        return Decision.SKIPPED
    if not group.rewards:
        return Decision.PROMPT_LOST if group.lost else Decision.PROMPT_TOO_LONG
    return decide_on(
        group.rewards,
        group.is_correct,
        dynamic_sampling=dynamic_sampling,
        min_verdicts=min_verdicts,
    )


def decide_on(
    rewards: Sequence[float],
    is_correct: Sequence[bool | None],
    *,
    dynamic_sampling: bool,
    min_verdicts: int,
) -> Decision:
    """Decides on responses of a group. What some make acceptable, further ones leave so."""
    known = [i for i, reward in enumerate(rewards) if not math.isnan(reward)]
    if len(known) < min_verdicts:
        return Decision.MISSING
    if not dynamic_sampling:
        return Decision.ACCEPTED

    verdicts = [is_correct[i] for i in known]
    if any(verdict is None for verdict in verdicts):
        informative = has_signal(torch.tensor(rewards, dtype=torch.float64))
        return Decision.ACCEPTED if informative else Decision.NO_SIGNAL

    if all(verdicts):
        return Decision.ALL_CORRECT
    return Decision.ACCEPTED if any(verdicts) else Decision.ALL_WRONG
