"""Dynamic sampling for batches to come: what is kept meanwhile, and what gets too old."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_dapo.core import GroupSummary
from rllib_dapo.rollout.acceptance_estimate import AcceptanceEstimate
from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
from rllib_dapo.rollout.group_decisions import Decision

MakeSummary = Callable[..., GroupSummary]
MakeGroup = Callable[..., GroupSummary]


@pytest.fixture(scope="module")
def group_of(make_summary: MakeSummary) -> MakeGroup:
    """Makes a prompt's group that a version has sampled; every third prompt is informative."""

    def make(seed: int, version: int, *, is_informative: bool) -> GroupSummary:
        verdicts = (True, not is_informative)
        rewards = [1.0 if correct else -1.0 for correct in verdicts]
        return make_summary(seed, rewards=rewards, is_correct=verdicts, weights_version=version)

    return make


@dataclass
class Loop:
    """The algorithm's loop: a batch is filled, and while it is trained groups go on arriving.

    Attributes:
        max_staleness: The setting.
        world: Which prompts are informative, over and over.
        make: Makes a prompt's group.
        draws: Which group arrives next.
        under_way: Version with which each group under way was begun, by seed.
        batches: The groups of each batch.
    """

    max_staleness: int
    world: list[bool]
    make: MakeGroup
    draws: random.Random
    prompts: int = 3
    under_way: dict[int, int] = field(default_factory=dict)
    batches: list[list[GroupSummary]] = field(default_factory=list)

    def run(self, batches: int) -> DynamicSampler:
        sampler = DynamicSampler(
            prompts_per_step=self.prompts, next_seed=0, max_rounds=1000, keeps=True
        )
        for version in range(batches):
            sampler.version, sampler.ahead = version, self.max_staleness * self.prompts
            while not sampler.is_done:
                assert self.advance(sampler), "nothing is under way, and nothing is asked for"
            self.batches.append(sampler.accepted)

            # While Learners train, for a while.
            sampler = sampler.following(oldest=version + 1 - self.max_staleness)
            for seed in sampler.too_old:
                self.under_way.pop(seed, None)
            sampler.version, sampler.ahead = version, (self.max_staleness - 1) * self.prompts
            for _ in range(self.draws.randrange(20)):
                self.advance(sampler)
        return sampler

    def advance(self, sampler: DynamicSampler) -> bool:
        """One group arrives; returns whether any was under way."""
        for seed in sampler.ask():
            assert seed not in self.under_way
            self.under_way[seed] = sampler.version
        if not self.under_way:
            return False
        seed = self.draws.choice(sorted(self.under_way))
        is_informative = self.world[seed % len(self.world)]
        sampler.offer([self.make(seed, self.under_way.pop(seed), is_informative=is_informative)])
        for seed in sampler.drop():
            self.under_way.pop(seed, None)
        return True


@given(
    max_staleness=st.integers(1, 3),
    world=st.lists(st.booleans(), min_size=1, max_size=12).filter(any),
    draws=st.randoms(use_true_random=False),
)
@settings(max_examples=60)
def test_batches_are_the_next_informative_prompts_and_none_is_older_than_the_bound(
    group_of: MakeGroup, max_staleness: int, world: list[bool], draws: random.Random
) -> None:
    loop = Loop(max_staleness, world, group_of, draws)
    loop.run(6)
    informative = (seed for seed in itertools.count() if world[seed % len(world)])
    assert [group.seed for batch in loop.batches for group in batch] == list(
        itertools.islice(informative, 6 * loop.prompts)
    )
    for version, batch in enumerate(loop.batches):
        assert all(version - group.weights_version <= max_staleness for group in batch)


def test_groups_beyond_the_batch_are_those_of_the_next_one(group_of: MakeGroup) -> None:
    nearly_all = AcceptanceEstimate(accepted=100.0, sampled=100.0, asked=100.0)
    sampler = DynamicSampler(
        prompts_per_step=2, next_seed=0, keeps=True, ahead=2, estimate=nearly_all
    )
    assert sampler.ask() == [0, 1, 2, 3]
    sampler.offer([group_of(seed, 0, is_informative=seed != 1) for seed in (2, 0, 1)])
    assert sampler.is_done
    assert (sampler.next_to_decide, sampler.next_seed) == (3, 4)
    assert sampler.asked == 3, "the fourth is the next batch's"

    later = sampler.following(oldest=0)
    later.ahead = 0
    assert later.ask() == [4], "of the two that are wanted one is under way"
    later.offer([group_of(seed, 0, is_informative=True) for seed in (4, 3)])
    assert [group.seed for group in later.accepted] == [3, 4]
    assert (later.expired, later.surplus, later.given_up) == (0, 0, 0)
    assert later.tokens == 12


def test_what_is_too_old_for_the_next_batch_is_asked_for_anew(group_of: MakeGroup) -> None:
    sampler = DynamicSampler(prompts_per_step=1, next_seed=0, keeps=True, ahead=3, version=4)
    assert sampler.ask() == [0, 1, 2, 3]
    sampler.offer(
        [
            group_of(0, 4, is_informative=True),
            group_of(2, 5, is_informative=True),  # begun when newer weights had come
            group_of(3, 4, is_informative=True),
        ]
    )
    later = sampler.following(oldest=5)
    assert later.too_old == [1, 3], "one under way, and one that has arrived"
    assert later.expired == 2
    later.version, later.ahead = 5, 0
    assert later.ask() == [1, 3]
    later.offer([group_of(1, 5, is_informative=False)])
    assert [group.seed for group in later.accepted] == [2]
    assert later.decisions == {Decision.ALL_CORRECT: 1, Decision.ACCEPTED: 1}


def test_prompts_without_responses_do_not_get_old(
    group_of: MakeGroup, make_summary: MakeSummary
) -> None:
    sampler = DynamicSampler(prompts_per_step=1, next_seed=0, keeps=True, ahead=2)
    assert sampler.ask() == [0, 1, 2]
    sampler.offer([group_of(0, 0, is_informative=True), make_summary(1, lost="no prompt")])
    assert sampler.following(oldest=7).too_old == [2]


def test_what_is_under_way_is_recalled_and_asked_for_anew(group_of: MakeGroup) -> None:
    sampler = DynamicSampler(prompts_per_step=2, next_seed=0, keeps=True)
    assert sampler.ask() == [0, 1]
    sampler.offer([group_of(1, 0, is_informative=True)])
    assert sampler.recall() == [0]
    assert sampler.given_up == 1
    assert sampler.ask() == [0]
    sampler.offer([group_of(0, 0, is_informative=True)])
    assert [group.seed for group in sampler.accepted] == [0, 1]


def test_a_sampler_goes_on_with_groups_that_were_kept(group_of: MakeGroup) -> None:
    sampler = DynamicSampler(prompts_per_step=2, next_seed=5, keeps=True)
    sampler.keep([group_of(seed, 3, is_informative=True) for seed in (6, 8)])
    assert sampler.ask() == [5, 7], "with those that lie between, enough are under way"
    sampler.offer([group_of(5, 4, is_informative=False)])
    assert [group.seed for group in sampler.accepted] == [6]
    sampler.offer([group_of(7, 4, is_informative=False)])
    assert [group.seed for group in sampler.accepted] == [6, 8]
    assert sampler.next_to_decide == 9

    young = DynamicSampler(prompts_per_step=2, next_seed=5, keeps=True)
    young.keep([group_of(6, 3, is_informative=True)])
    assert young.following(oldest=4).too_old == [5, 6]


def test_a_batch_takes_as_many_earlier_groups_as_it_has_places(group_of: MakeGroup) -> None:
    sampler = DynamicSampler(prompts_per_step=3, next_seed=9, keeps=True)
    sampler.ask()
    sampler.offer([group_of(9, 1, is_informative=True)])
    earlier = [group_of(seed, 0, is_informative=True) for seed in (3, 2, 1)]
    assert sampler.reuse(earlier) == earlier[:2]
    assert [group.seed for group in sampler.accepted] == [9, 3, 2]
    assert sampler.wanted == 0


def test_a_batch_ends_by_its_own_budget_though_more_is_under_way(group_of: MakeGroup) -> None:
    sampler = DynamicSampler(
        prompts_per_step=2,
        next_seed=0,
        keeps=True,
        ahead=2,
        max_rounds=1,
        max_oversampling=2.0,
        estimate=AcceptanceEstimate(accepted=1, sampled=4, asked=4),
    )
    assert sampler.ask() == list(range(8))
    sampler.offer([group_of(seed, 0, is_informative=False) for seed in range(5)])
    assert sampler.is_done
    assert (sampler.wanted, len(sampler.seen), sampler.next_to_decide) == (2, 4, 4)
    assert not sampler.following(oldest=0).is_done
