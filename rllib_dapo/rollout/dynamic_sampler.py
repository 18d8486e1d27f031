"""Dynamic sampling (paper, Eq. 11 and Algorithm 1): which groups train, and how many to ask for next.

Decisions only: no engine, no environment, no Ray. Given the same groups in the same order it
decides the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
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


def judge(group: GroupSummary, *, dynamic_sampling: bool = True, min_verdicts: int = 2) -> Decision:
    """Accepts a group if its responses disagree in raw accuracy: `0 < number correct < G`.

    The test never sees a shaped reward: a length penalty must neither keep nor drop a group. Where
    the environment has no notion of correct, the raw rewards must differ by more than 1e-6. Missing
    verdicts are left out; a group with too few known rewards cannot be compared with itself and is
    dropped.

    Args:
        group: The group's summary.
        dynamic_sampling: False accepts every group that can be trained on at all.
        min_verdicts: Known rewards that a group needs: two, or one where a critic gives the
            baseline.
    """
    if not group.rewards:
        return Decision.PROMPT_TOO_LONG
    known = [i for i, reward in enumerate(group.rewards) if not math.isnan(reward)]
    if len(known) < min_verdicts:
        return Decision.MISSING
    if not dynamic_sampling:
        return Decision.ACCEPTED
    verdicts = [group.is_correct[i] for i in known]
    if any(verdict is None for verdict in verdicts):
        informative = has_signal(torch.tensor(group.rewards, dtype=torch.float64))
        return Decision.ACCEPTED if informative else Decision.NO_SIGNAL
    if all(verdicts):
        return Decision.ALL_CORRECT
    return Decision.ACCEPTED if any(verdicts) else Decision.ALL_WRONG


@dataclass(kw_only=True)
class DynamicSampler:
    """Fills one training batch with informative groups, round by round.

    Attributes:
        prompts_per_step: How many groups the batch wants.
        next_seed: The first prompt seed not yet used.
        dynamic_sampling: False takes every group.
        max_rounds: Give up refilling after so many rounds.
        max_oversampling: Bound on groups asked for in a round over groups still wanted.
        acceptance_rate: Estimate of the share that will be accepted, for the size of the first
            round.
        min_verdicts: See `judge`.
    """

    prompts_per_step: int
    next_seed: int
    dynamic_sampling: bool = True
    max_rounds: int = 10
    max_oversampling: float = 3.0
    acceptance_rate: float = 1.0
    min_verdicts: int = 2
    accepted: list[GroupSummary] = field(default_factory=list, init=False)
    seen: list[GroupSummary] = field(default_factory=list, init=False)
    decisions: Counter[Decision] = field(default_factory=Counter, init=False)
    rounds: int = field(default=0, init=False)
    surplus: int = field(default=0, init=False)

    @property
    def wanted(self) -> int:
        """Groups still wanted."""
        return self.prompts_per_step - len(self.accepted)

    @property
    def is_done(self) -> bool:
        """Whether the batch is full, or all rounds are used up."""
        return self.wanted == 0 or self.rounds >= self.max_rounds

    def next_round(self) -> range:
        """The prompt seeds of the next round: as many as will probably fill the batch."""
        rate = self.acceptance_rate
        factor = min(1.0 / rate, self.max_oversampling) if rate > 0.0 else self.max_oversampling
        size = math.ceil(self.wanted * factor) if self.dynamic_sampling else self.wanted
        self.rounds += 1
        seeds = range(self.next_seed, self.next_seed + size)
        self.next_seed = seeds.stop
        return seeds

    def offer(self, groups: Iterable[GroupSummary]) -> None:
        """Decides on one round's groups, in the order of their seeds.

        Informative groups beyond the last one wanted are left alone: their prompts come again in
        the next step, under its weights, so no prompt is lost and a run can be resumed from
        `next_seed` alone.
        """
        for group in sorted(groups, key=lambda g: g.seed):
            self.seen.append(group)
            decision = judge(
                group, dynamic_sampling=self.dynamic_sampling, min_verdicts=self.min_verdicts
            )
            self.decisions[decision] += 1
            if decision is not Decision.ACCEPTED:
                continue
            if self.wanted == 0:
                self.surplus += 1
                continue
            self.accepted.append(group)
            if self.wanted == 0:
                self.next_seed = group.seed + 1
        if self.seen:
            self.acceptance_rate = self.decisions[Decision.ACCEPTED] / len(self.seen)
