"""Dynamic sampling (paper, Eq. 11 and Algorithm 1): which groups train, and which prompts are next.

This module only decides. It uses no engine, no environment and no Ray, and the same groups always
lead to the same batch, in whatever order they arrive.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import torch

from rllib_dapo.core.advantage import has_signal
from rllib_dapo.core.types import GroupSummary
from rllib_dapo.rollout.acceptance_estimate import AcceptanceEstimate
from rllib_dapo.rollout.group_so_far import GroupSoFar
from rllib_dapo.rollout.outlooks import SURE, UNKNOWN, Outlook, Outlooks


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
    return _decide_on(
        group.rewards,
        group.is_correct,
        dynamic_sampling=dynamic_sampling,
        min_verdicts=min_verdicts,
    )


def _decide_on(
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


@dataclass(kw_only=True)
class DynamicSampler:
    """Fills one training batch with informative groups, which arrive one by one.

    The batch is made of the first informative groups in the order of their prompts' seeds, so it
    does not depend on which group was finished first: a group is decided on as soon as all before
    it have been. How many groups are asked for at a time does depend on what has arrived.

    Attributes:
        prompts_per_step: Number of groups in a full batch.
        next_seed: First prompt seed that was not asked for; once the batch is full, the first one
            that the next batch asks for.
        dynamic_sampling: Whether groups are tested at all, see `decide`.
        max_rounds: Number of rounds after which the batch stays as it is.
        max_oversampling: Largest ratio of the groups under way to the groups still wanted, see
            `AcceptanceEstimate.further`.
        estimate: How many groups are accepted, by the steps before.
        min_verdicts: Number of known rewards that a group needs, see `decide`.
        accepted: Groups of the batch so far, in the order of their seeds; those of `fill_up` come
            last.
        seen: All groups that were decided on, in the order of their seeds.
        decisions: Number of groups that met each decision.
        surplus: Number of groups that had arrived when it was clear that the batch would be full
            without them.
        given_up: Number of groups that were under way then.
        tokens: Number of sampled tokens of all groups that have arrived.
    """

    prompts_per_step: int
    next_seed: int
    dynamic_sampling: bool = True
    max_rounds: int = 10
    max_oversampling: float = 3.0
    estimate: AcceptanceEstimate = field(default_factory=AcceptanceEstimate)
    min_verdicts: int = 2
    accepted: list[GroupSummary] = field(default_factory=list, init=False)
    seen: list[GroupSummary] = field(default_factory=list, init=False)
    decisions: Counter[Decision] = field(default_factory=Counter, init=False)
    surplus: int = field(default=0, init=False)
    given_up: int = field(default=0, init=False)
    tokens: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Nothing was asked for yet."""
        self._next_to_decide = self.next_seed
        self._under_way = Outlooks()
        # Groups that have arrived, but not all before them: they may turn out not to be needed.
        self._arrived: dict[int, tuple[GroupSummary, Decision]] = {}
        self._num_arrived: Counter[Decision] = Counter()  # that met each decision
        self._filled_up: set[int] = set()

    @property
    def wanted(self) -> int:
        """Number of groups still wanted."""
        return self.prompts_per_step - len(self.accepted)

    @property
    def asked(self) -> int:
        """Number of groups that were asked for and not skipped."""
        return self._used + self.surplus + self.given_up

    @property
    def rounds(self) -> float:
        """The groups that were asked for, in rounds.

        A round is the most that is under way at a time: `max_oversampling` full batches, or one
        where groups are not tested.
        """
        return self.asked / self._round_size

    @property
    def _round_size(self) -> float:
        return self.prompts_per_step * (self.max_oversampling if self.dynamic_sampling else 1.0)

    @property
    def is_done(self) -> bool:
        """Whether the batch is full, or all rounds are used up and all groups have arrived."""
        return self.wanted == 0 or (self._left == 0 and not self._under_way)

    @property
    def _skipped(self) -> int:
        return self.decisions[Decision.SKIPPED] + self._num_arrived[Decision.SKIPPED]

    @property
    def _used(self) -> int:
        """Number of groups that the batch is chosen from, as far as they were asked for."""
        return len(self.seen) + len(self._arrived) + len(self._under_way) - self._skipped

    @property
    def _left(self) -> int:
        """Number of groups that may still be asked for.

        What is given up does not count: how much that is depends on which group was faster.
        """
        return max(0, math.ceil(self.max_rounds * self._round_size) - self._used)

    @property
    def acceptance_rate(self) -> float:
        """Share of the groups that were accepted, of those decided on; 1 as long as none is."""
        sampled = len(self.seen) - self.decisions[Decision.SKIPPED]
        return self.decisions[Decision.ACCEPTED] / sampled if sampled else 1.0

    @property
    def next_estimate(self) -> AcceptanceEstimate:
        """What the next step estimates with, by the groups that were decided on."""
        skipped = self.decisions[Decision.SKIPPED]
        return self.estimate.after(
            accepted=self.decisions[Decision.ACCEPTED],
            sampled=len(self.seen) - skipped,
            asked=len(self.seen),
        ).next_step()

    def ask(self) -> range:
        """Returns further prompt seeds to ask for; none, if what is under way will probably do.

        The paper over-samples by a fixed factor, which costs most when nearly every group is
        informative. Here what is under way is expected to fill the batch. How a group will end
        shows early: two verdicts that differ are enough to accept it. So one that is about to be
        dropped is replaced while its longest responses are still being sampled.
        """
        open_places = self.wanted - self._num_arrived[Decision.ACCEPTED]
        if self.is_done or open_places <= 0:
            return range(self.next_seed, self.next_seed)

        count = self._estimate_now().further(
            wanted=open_places,
            under_way=self._under_way.counts,
            max_oversampling=self.max_oversampling,
        )
        seeds = range(self.next_seed, self.next_seed + min(count, self._left))
        self.next_seed = seeds.stop
        for seed in seeds:
            self._under_way.note(seed, UNKNOWN if self.dynamic_sampling else SURE)
        return seeds

    def _estimate_now(self) -> AcceptanceEstimate:
        """With all that has arrived in this step."""
        if not self.dynamic_sampling:
            return AcceptanceEstimate()  # whatever is sampled will probably be accepted
        known = len(self.seen) + len(self._arrived)
        return self.estimate.after(
            accepted=self.decisions[Decision.ACCEPTED] + self._num_arrived[Decision.ACCEPTED],
            sampled=known - self._skipped,
            asked=known,
        )

    def _decide(self, group: GroupSummary) -> Decision:
        return decide(group, dynamic_sampling=self.dynamic_sampling, min_verdicts=self.min_verdicts)

    def offer(
        self, groups: Iterable[GroupSummary], under_way: Mapping[int, GroupSoFar] | None = None
    ) -> None:
        """Takes groups that have arrived, and decides on those before which none is missing.

        Groups beyond the full batch are not kept: their prompts come again in the next step.
        Keeping them would train on older weights and put token arrays into checkpoints. This way no
        prompt is lost, and a run resumes from `next_seed` and `next_estimate` alone.

        Args:
            groups: Summaries of groups that were asked for, in any order.
            under_way: What is known of others, by seed.
        """
        for seed, so_far in (under_way or {}).items():
            if self.dynamic_sampling and seed in self._under_way:
                self._under_way.note(seed, self._outlook(so_far))
        for group in groups:
            if self._under_way.end(group.seed):
                decision = self._decide(group)
                self._arrived[group.seed] = group, decision
                self._num_arrived[decision] += 1
                self.tokens += sum(group.response_tokens)

        while self.wanted and self._next_to_decide in self._arrived:
            group, decision = self._take_arrived(self._next_to_decide)
            self._next_to_decide += 1
            self.seen.append(group)
            self.decisions[decision] += 1
            if decision is Decision.ACCEPTED:
                self.accepted.append(group)

        if self.wanted == 0:
            self._give_up_from(self._next_to_decide)

    def drop(self) -> range:
        """Gives up prompts that the batch will not need, whatever comes of those under way.

        Returns:
            Their seeds. Those that are asked for again, here or in the next step, begin anew.
        """
        sure = len(self.accepted)
        if sure + self._num_arrived[Decision.ACCEPTED] + self._under_way.counts[SURE] >= (
            self.prompts_per_step
        ):
            for seed in range(self._next_to_decide, self.next_seed):
                _, decision = self._arrived.get(seed, (None, None))
                sure += decision is Decision.ACCEPTED or self._under_way.of(seed) == SURE
                if sure == self.prompts_per_step:
                    return self._give_up_from(seed + 1)
        return range(self.next_seed, self.next_seed)

    def _give_up_from(self, first: int) -> range:
        """From this prompt on nothing was asked for, as far as what follows is concerned."""
        seeds = range(first, self.next_seed)
        self.next_seed = first
        for seed in seeds:
            if self._under_way.end(seed):
                self.given_up += 1
            else:
                self.surplus += self._take_arrived(seed)[1] is not Decision.SKIPPED
        return seeds

    def _take_arrived(self, seed: int) -> tuple[GroupSummary, Decision]:
        group, decision = self._arrived.pop(seed)
        self._num_arrived[decision] -= 1
        return group, decision

    def _outlook(self, group: GroupSoFar) -> Outlook:
        decision = _decide_on(
            group.rewards,
            group.is_correct,
            dynamic_sampling=self.dynamic_sampling,
            min_verdicts=self.min_verdicts,
        )
        if decision is Decision.ACCEPTED:
            return SURE
        return Outlook(known=group.num_known, total=group.num_known + group.unfinished)

    def fill_up(self) -> None:
        """Adds groups without a signal to a batch that is not full, in the order of their seeds.

        They have no advantage, so they do not move the policy; but means over the batch, and the
        terms of the loss that need no advantage, are then of as many groups as always.
        """
        spare = [group for group in self.seen if self._decide(group) in WITHOUT_SIGNAL]
        added = spare[: self.wanted]
        self.accepted += added
        self._filled_up |= {group.seed for group in added}

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
            if self._decide(group) is Decision.ACCEPTED or group.seed in self._filled_up
        ]
