"""Dynamic sampling (paper, Eq. 11 and Algorithm 1): which groups train, and which prompts are next.

This module only decides. It uses no engine, no environment and no Ray, and the same groups always
lead to the same batch, in whatever order they arrive.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from rllib_dapo.core.types import GroupSummary
from rllib_dapo.rollout.acceptance_estimate import AcceptanceEstimate
from rllib_dapo.rollout.group_decisions import WITHOUT_SIGNAL, Decision, decide, decide_on
from rllib_dapo.rollout.group_so_far import GroupSoFar
from rllib_dapo.rollout.outlooks import SURE, UNKNOWN, Outlook, Outlooks


@dataclass(kw_only=True)
class DynamicSampler:
    """Fills one training batch with informative groups, which arrive one by one.

    The batch is made of the first informative groups in the order of their prompts' seeds, so it
    does not depend on which group was finished first: a group is decided on as soon as all before
    it have been. How many groups are asked for at a time does depend on what has arrived.

    Groups beyond a full batch are given up, and their prompts come again: they would be trained on
    under weights that they were not sampled with. Where that is allowed (`keeps`), they are for the
    batches that `following` begins.

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
        keeps: Whether groups beyond the batch are kept for the batches after it.
        ahead: Number of accepted groups that are asked for beyond this batch.
        version: Version of the weights that sample what is asked for.
        accepted: Groups of the batch so far, in the order of their seeds; those of `fill_up` come
            last.
        seen: All groups that were decided on, in the order of their seeds.
        decisions: Number of groups that met each decision.
        surplus: Number of groups that had arrived when it was clear that the batch would be full
            without them.
        given_up: Number of groups that were under way then.
        expired: Number of groups that became too old before a batch had a place for them.
        too_old: Prompt seeds of those; they are asked for anew.
        reused: Groups of earlier batches in this one.
        tokens: Number of sampled tokens of all groups that have arrived.
    """

    prompts_per_step: int
    next_seed: int
    dynamic_sampling: bool = True
    max_rounds: int = 10
    max_oversampling: float = 3.0
    estimate: AcceptanceEstimate = field(default_factory=AcceptanceEstimate)
    min_verdicts: int = 2
    keeps: bool = False
    ahead: int = 0
    version: int = 0
    accepted: list[GroupSummary] = field(default_factory=list, init=False)
    seen: list[GroupSummary] = field(default_factory=list, init=False)
    decisions: Counter[Decision] = field(default_factory=Counter, init=False)
    surplus: int = field(default=0, init=False)
    given_up: int = field(default=0, init=False)
    expired: int = field(default=0, init=False)
    too_old: list[int] = field(default_factory=list, init=False)
    reused: list[GroupSummary] = field(default_factory=list, init=False)
    tokens: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Nothing was asked for yet."""
        self.next_to_decide = self.next_seed
        self._under_way = Outlooks()
        self._asked_at: dict[int, int] = {}  # under which version, what is not decided on yet
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
        """Number of groups that were asked for and not skipped, those kept for later left out."""
        used = self._decided if self.keeps else self._used
        return used + self.surplus + self.given_up + self.expired

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
        is_all_here = self._left == 0 and not self._under_way
        return self.wanted == 0 or self._is_used_up or is_all_here

    @property
    def _is_used_up(self) -> bool:
        return self.keeps and self._decided >= self._most

    @property
    def _decided(self) -> int:
        return len(self.seen) - self.decisions[Decision.SKIPPED]

    @property
    def _skipped(self) -> int:
        return self.decisions[Decision.SKIPPED] + self._num_arrived[Decision.SKIPPED]

    @property
    def _used(self) -> int:
        """Number of groups that the batch is chosen from, as far as they were asked for."""
        return len(self.seen) + len(self._arrived) + len(self._under_way) - self._skipped

    @property
    def _most(self) -> int:
        """Number of groups that the batch is chosen from at most."""
        return math.ceil(self.max_rounds * self._round_size)

    @property
    def _left(self) -> int:
        """Number of groups that may still be asked for.

        What is given up does not count: how much that is depends on which group was faster.
        """
        with_those_ahead = math.ceil(self._most * (1 + self.ahead / self.prompts_per_step))
        return max(0, with_those_ahead - self._used)

    @property
    def acceptance_rate(self) -> float:
        """Share of the groups that were accepted, of those decided on; 1 as long as none is."""
        accepted = self.decisions[Decision.ACCEPTED]
        return accepted / self._decided if self._decided else 1.0

    @property
    def next_estimate(self) -> AcceptanceEstimate:
        """What the next step estimates with, by the groups that were decided on."""
        return self.estimate.after(
            accepted=self.decisions[Decision.ACCEPTED],
            sampled=self._decided,
            asked=len(self.seen),
        ).next_step()

    def following(self, *, oldest: int) -> Self:
        """Begins the next batch, with all groups that are kept or under way.

        Args:
            oldest: Version of the weights that a group of that batch must have been begun with, or
                with a later one. What is older is asked for anew, see `too_old`.
        """
        batch = replace(self, next_seed=self.next_to_decide, estimate=self.next_estimate)
        batch.next_seed = self.next_seed
        batch._under_way, batch._asked_at = self._under_way, self._asked_at
        batch._arrived, batch._num_arrived = self._arrived, self._num_arrived

        expired = [seed for seed in batch._asked_at if batch._begun_with(seed) < oldest]
        for seed in expired:
            batch._end(seed)
        batch.expired = len(expired)
        batch.too_old = [*self.too_old, *expired]
        return batch

    def _begun_with(self, seed: int) -> float:
        """Version of the weights that a group was begun with, perhaps a later one."""
        if seed not in self._arrived:
            return self._asked_at[seed]
        group, _ = self._arrived[seed]
        return group.weights_version if group.rewards else math.inf

    def keep(self, groups: Sequence[GroupSummary]) -> None:
        """Begins with groups that have arrived in an earlier process.

        Args:
            groups: Summaries of groups from `next_seed` on. Prompts between them are asked for.
        """
        for group in groups:
            decision = self._decide(group)
            self._arrived[group.seed] = group, decision
            self._num_arrived[decision] += 1
            self._asked_at[group.seed] = group.weights_version
        stop = max((group.seed + 1 for group in groups), default=self.next_seed)
        self.too_old = [s for s in range(self.next_seed, stop) if s not in self._arrived]
        self.next_seed = stop

    @property
    def arrived_seeds(self) -> set[int]:
        """Prompt seeds of groups that are here, for this batch or those after it."""
        return {*self._arrived, *(group.seed for group in self.seen)}

    def recall(self) -> list[int]:
        """Gives up all that is under way, to be asked for anew; returns its prompt seeds."""
        seeds = [seed for seed in self._asked_at if seed in self._under_way]
        for seed in seeds:
            self._end(seed)
        self.given_up += len(seeds)
        self.too_old += seeds
        return seeds

    def ask(self) -> list[int]:
        """Returns further prompt seeds to ask for; none, if what is under way will probably do.

        The paper over-samples by a fixed factor, which costs most when nearly every group is
        informative. Here what is under way is expected to fill the batch. How a group will end
        shows early: two verdicts that differ are enough to accept it. So one that is about to be
        dropped is replaced while its longest responses are still being sampled.
        """
        seeds, self.too_old = self.too_old, []
        self._begin(seeds)

        open_places = self.wanted + self.ahead - self._num_arrived[Decision.ACCEPTED]
        if open_places > 0 and self._left:
            count = self._estimate_now().further(
                wanted=open_places,
                batch=self.prompts_per_step,
                under_way=self._under_way.counts,
                max_oversampling=self.max_oversampling,
            )
            new = range(self.next_seed, self.next_seed + min(count, self._left))
            self.next_seed = new.stop
            self._begin(new)
            seeds += new
        return seeds

    def _begin(self, seeds: Iterable[int]) -> None:
        for seed in seeds:
            self._under_way.note(seed, UNKNOWN if self.dynamic_sampling else SURE)
            self._asked_at[seed] = self.version

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

        while self.wanted and not self._is_used_up and self.next_to_decide in self._arrived:
            group, decision = self._take_arrived(self.next_to_decide)
            self.next_to_decide += 1
            self.seen.append(group)
            self.decisions[decision] += 1
            if decision is Decision.ACCEPTED:
                self.accepted.append(group)

        if self.wanted == 0 and not self.keeps:
            self._give_up_from(self.next_to_decide)

    def drop(self) -> range:
        """Gives up prompts that the batch will not need, whatever comes of those under way.

        Returns:
            Their seeds. Those that are asked for again, here or in the next step, begin anew.
        """
        sure, needed = len(self.accepted), self.prompts_per_step + self.ahead
        if sure + self._num_arrived[Decision.ACCEPTED] + self._under_way.counts[SURE] >= needed:
            for seed in range(self.next_to_decide, self.next_seed):
                _, decision = self._arrived.get(seed, (None, None))
                sure += decision is Decision.ACCEPTED or self._under_way.of(seed) == SURE
                if sure == needed:
                    return self._give_up_from(seed + 1)
        return range(self.next_seed, self.next_seed)

    def _give_up_from(self, first: int) -> range:
        """From this prompt on nothing was asked for, as far as what follows is concerned."""
        seeds = range(first, self.next_seed)
        self.next_seed = first
        for seed in seeds:
            is_under_way, decision = self._end(seed)
            self.given_up += is_under_way
            self.surplus += not is_under_way and decision is not Decision.SKIPPED
        return seeds

    def _end(self, seed: int) -> tuple[bool, Decision | None]:
        """Takes a group away; returns whether it was under way, or else what was decided."""
        if self._under_way.end(seed):
            del self._asked_at[seed]
            return True, None
        return False, self._take_arrived(seed)[1]

    def _take_arrived(self, seed: int) -> tuple[GroupSummary, Decision]:
        group, decision = self._arrived.pop(seed)
        self._num_arrived[decision] -= 1
        del self._asked_at[seed]
        return group, decision

    def _outlook(self, group: GroupSoFar) -> Outlook:
        decision = decide_on(
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

    def reuse(self, earlier: Iterable[GroupSummary]) -> list[GroupSummary]:
        """Adds groups of earlier batches to one that is not full.

        Args:
            earlier: Their summaries; the first of them are taken.

        Returns:
            Those that were taken.
        """
        self.reused = list(earlier)[: self.wanted]
        self.accepted += self.reused
        return self.reused

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
