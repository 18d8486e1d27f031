"""Dynamic sampling (paper, Eq. 11 and Algorithm 1): which groups train, and which prompts are next.

This module only decides. It uses no engine, no environment and no Ray, and the same groups always
lead to the same decisions.
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
    PROMPT_LOST = "prompt_lost"


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
    if not group.rewards:
        return Decision.PROMPT_LOST if group.lost else Decision.PROMPT_TOO_LONG

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
        prompts_per_step: Number of groups in a full batch.
        next_seed: First prompt seed that is not used yet.
        dynamic_sampling: Whether groups are tested at all, see `decide`.
        max_rounds: Number of rounds after which the batch stays as it is.
        max_oversampling: Largest ratio of the groups asked for in a round to the groups still
            wanted.
        acceptance_rate: Share of the groups that were accepted last, which sizes the next round.
        min_verdicts: Number of known rewards that a group needs, see `decide`.
        accepted: Groups of the batch so far, in the order of their seeds.
        seen: All groups that were offered.
        decisions: Number of groups that met each decision.
        rounds: Number of rounds asked for so far.
        surplus: Number of informative groups beyond the full batch.
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
        """Number of groups still wanted."""
        return self.prompts_per_step - len(self.accepted)

    @property
    def is_done(self) -> bool:
        """Whether the batch is full, or all rounds are used up."""
        return self.wanted == 0 or self.rounds >= self.max_rounds

    def next_round(self) -> range:
        """Returns the prompt seeds of the next round: as many as will probably fill the batch.

        The paper over-samples by a fixed factor, which costs most when nearly every group is
        informative. Here the acceptance rate last seen sizes the round.
        """
        rate = self.acceptance_rate
        factor = min(1.0 / rate, self.max_oversampling) if rate > 0.0 else self.max_oversampling
        size = math.ceil(self.wanted * factor) if self.dynamic_sampling else self.wanted

        self.rounds += 1
        seeds = range(self.next_seed, self.next_seed + size)
        self.next_seed = seeds.stop
        return seeds

    def offer(self, groups: Iterable[GroupSummary]) -> None:
        """Decides on one round's groups, in the order of their seeds.

        Informative groups beyond the full batch are not kept: their prompts come again in the next
        step. Keeping them would train on older weights and put token arrays into checkpoints. This
        way no prompt is lost, and a run resumes from `next_seed` and `acceptance_rate` alone.

        Args:
            groups: Summaries of the round's groups, in any order.
        """
        for group in sorted(groups, key=lambda g: g.seed):
            decision = decide(
                group, dynamic_sampling=self.dynamic_sampling, min_verdicts=self.min_verdicts
            )
            self.seen.append(group)
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

    def take_again(self, groups: Iterable[GroupSummary]) -> None:
        """Takes summaries of groups that were sampled again, in the place of those before.

        Args:
            groups: Summaries of groups that were offered; one that would not be accepted any more
                leaves the batch.
        """
        again = {group.seed: group for group in groups}
        self.seen = [again.get(group.seed, group) for group in self.seen]
        self.accepted = [
            group
            for group in (again.get(group.seed, group) for group in self.accepted)
            if decide(group, dynamic_sampling=self.dynamic_sampling, min_verdicts=self.min_verdicts)
            is Decision.ACCEPTED
        ]
