"""Dynamic sampling: which groups make a batch, and which prompts are asked for."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import nan

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rllib_dapo.core import GroupSummary
from rllib_dapo.rollout.acceptance_estimate import AcceptanceEstimate
from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
from rllib_dapo.rollout.group_decisions import Decision
from rllib_dapo.rollout.group_so_far import GroupSoFar

MakeSummary = Callable[..., GroupSummary]

# Which prompts are informative, from seed 0 on; then the pattern begins again.
WORLDS = st.lists(st.booleans(), min_size=1, max_size=12).filter(any)


@pytest.fixture(scope="module")
def group_of(make_summary: MakeSummary) -> Callable[[Sequence[bool], int], GroupSummary]:
    """Makes a prompt's group: a right and a wrong response if it is informative, else two right."""

    def make(world: Sequence[bool], seed: int) -> GroupSummary:
        informative = world[seed % len(world)]
        verdicts = (True, not informative)
        return make_summary(
            seed, rewards=[1.0 if correct else -1.0 for correct in verdicts], is_correct=verdicts
        )

    return make


def known(accepted: int, *, of: int) -> AcceptanceEstimate:
    """What is known after so many groups, none of which was skipped."""
    return AcceptanceEstimate(accepted=accepted, sampled=of, asked=of)


@dataclass
class Run:
    """Training steps as the algorithm takes them: a prompt and an estimate are all that goes on.

    Attributes:
        group_of: A seed's group.
        asked: Seeds in the order in which they were asked for, step by step.
        accepted: Seeds of each batch.
    """

    group_of: Callable[[int], GroupSummary]
    next_seed: int = 0
    estimate: AcceptanceEstimate = field(default_factory=AcceptanceEstimate)
    asked: list[list[int]] = field(default_factory=list)
    accepted: list[list[int]] = field(default_factory=list)

    def step(
        self, *, prompts_per_step: int, shuffle: random.Random | None = None, **settings: float
    ) -> DynamicSampler:
        """Groups arrive one by one: in the order of their seeds, or in any."""
        sampler = DynamicSampler(
            prompts_per_step=prompts_per_step,
            next_seed=self.next_seed,
            estimate=self.estimate,
            **{"max_rounds": 1000, **settings},
        )
        self.asked.append([])
        under_way: list[int] = []
        while not sampler.is_done:
            seeds = sampler.ask()
            self.asked[-1] += seeds
            under_way += seeds
            assert under_way, "nothing is under way, and nothing is asked for"
            place = shuffle.randrange(len(under_way)) if shuffle else 0
            sampler.offer([self.group_of(under_way.pop(place))])

        assert sampler.asked == len(self.asked[-1])
        assert sampler.given_up == len(under_way)
        self.next_seed, self.estimate = sampler.next_seed, sampler.next_estimate
        self.accepted.append([group.seed for group in sampler.accepted])
        return sampler


@given(
    world=WORLDS,
    prompts_per_step=st.integers(1, 9),
    max_oversampling=st.floats(1, 5),
    rng=st.randoms(use_true_random=False),
)
def test_a_step_takes_exactly_the_next_informative_prompts_whatever_order_groups_arrive_in(
    group_of: Callable[..., GroupSummary],
    world: list[bool],
    prompts_per_step: int,
    max_oversampling: float,
    rng: random.Random,
) -> None:
    run, in_order = (Run(lambda seed: group_of(world, seed)) for _ in range(2))
    informative = (seed for seed in itertools.count() if world[seed % len(world)])
    for _ in range(3):
        expected = list(itertools.islice(informative, prompts_per_step))
        options = {"prompts_per_step": prompts_per_step, "max_oversampling": max_oversampling}
        sampler, other = run.step(**options, shuffle=rng), in_order.step(**options)
        assert run.accepted[-1] == expected
        assert sampler.next_seed == expected[-1] + 1
        assert sampler.wanted == 0
        # What is reported of the groups, and handed on, does not depend on the order either.
        assert sampler.seen == other.seen
        assert sampler.decisions == other.decisions
        assert sampler.acceptance_rate == other.acceptance_rate
        assert sampler.next_estimate == other.next_estimate


@given(world=WORLDS, stop=st.integers(1, 4))
def test_a_run_goes_on_from_its_next_prompt_and_its_estimate_alone(
    group_of: Callable[..., GroupSummary], world: list[bool], stop: int
) -> None:
    whole = Run(lambda seed: group_of(world, seed))
    for _ in range(5):
        whole.step(prompts_per_step=3)
    first = Run(lambda seed: group_of(world, seed))
    for _ in range(stop):
        first.step(prompts_per_step=3)
    resumed = Run(lambda seed: group_of(world, seed), first.next_seed, first.estimate)
    for _ in range(5 - stop):
        resumed.step(prompts_per_step=3)
    assert first.asked + resumed.asked == whole.asked
    assert first.accepted + resumed.accepted == whole.accepted


def test_what_comes_after_the_full_batch_is_asked_for_again_in_the_next_step(
    group_of: Callable[..., GroupSummary],
) -> None:
    run = Run(lambda seed: group_of([True, False], seed), estimate=known(100, of=400))
    sampler = run.step(prompts_per_step=2, max_oversampling=4)
    assert run.asked == [list(range(8))]
    assert run.accepted == [[0, 2]]
    assert (sampler.given_up, len(sampler.seen), sampler.next_seed) == (5, 3, 3)
    assert sampler.decisions == {Decision.ACCEPTED: 2, Decision.ALL_CORRECT: 1}
    run.step(prompts_per_step=2)
    assert run.asked[-1][0] == 3
    assert run.accepted[-1] == [4, 6]


def test_groups_that_arrive_before_the_batch_is_full_without_them_are_surplus(
    group_of: Callable[..., GroupSummary],
) -> None:
    sampler = DynamicSampler(prompts_per_step=1, next_seed=0, estimate=known(50, of=100))
    assert sampler.ask() == [*range(2)]
    sampler.offer([group_of([True], 1)])
    assert not sampler.is_done, "seed 0 comes first"
    assert sampler.ask() == [*range(2, 2)], "one of the two will do"
    sampler.offer([group_of([True], 0)])
    assert [group.seed for group in sampler.accepted] == [0]
    assert (sampler.surplus, sampler.given_up, sampler.next_seed) == (1, 0, 1)


def test_a_group_that_is_not_informative_is_replaced_when_it_arrives(
    group_of: Callable[..., GroupSummary],
) -> None:
    sampler = DynamicSampler(prompts_per_step=4, next_seed=0, estimate=known(1000, of=1000))
    assert sampler.ask() == [*range(4)]
    sampler.offer([group_of([False], 2)])
    assert sampler.ask() == [*range(4, 5)]
    sampler.offer([group_of([True], 0)])
    assert len(sampler.ask()) == 0


def test_a_group_that_will_probably_be_dropped_is_replaced_while_it_is_under_way() -> None:
    sampler = DynamicSampler(prompts_per_step=4, next_seed=0, estimate=known(1000, of=1000))
    assert sampler.ask() == [*range(4)]
    undecided = GroupSoFar(rewards=(1.0,), is_correct=(True,), unfinished=7)
    sampler.offer([], {0: undecided})
    assert len(sampler.ask()) == 0, "it is as likely as any other"
    silent = GroupSoFar(rewards=(nan,) * 7, is_correct=(None,) * 7, unfinished=1)
    sampler.offer([], {1: silent, 99: silent})
    assert sampler.ask() == [*range(4, 5)], "one verdict is not enough"
    hopeless = GroupSoFar(rewards=(1.0,) * 8, is_correct=(True,) * 8, unfinished=0)
    sampler.offer([], {0: hopeless})
    assert sampler.ask() == [*range(5, 6)]


def test_prompts_behind_those_that_fill_the_batch_for_sure_are_dropped(
    group_of: Callable[..., GroupSummary],
) -> None:
    sampler = DynamicSampler(prompts_per_step=2, next_seed=0, estimate=known(100, of=300))
    assert sampler.ask() == [*range(6)]
    mixed = GroupSoFar(rewards=(1.0, -1.0), is_correct=(True, False), unfinished=6)
    agree = GroupSoFar(rewards=(1.0, 1.0), is_correct=(True, True), unfinished=6)
    sampler.offer([group_of([True], 4)], {0: agree, 2: mixed})
    assert sampler.drop() == range(5, 6), "2 and 4 will fill the batch, if nothing before them does"
    sampler.offer([], {0: agree, 1: mixed})
    assert sampler.drop() == range(3, 5)
    assert (sampler.surplus, sampler.given_up, sampler.asked) == (1, 2, 6)
    assert len(sampler.ask()) == 0
    assert sampler.drop() == range(3, 3)

    # What is given up here is what the next step begins with.
    sampler.offer([group_of([False], 0), group_of([True], 1), group_of([True], 2)])
    assert [group.seed for group in sampler.accepted] == [1, 2]
    assert sampler.next_seed == 3


def test_a_prompt_that_was_dropped_is_asked_for_again_where_what_was_sure_is_not(
    make_summary: MakeSummary, group_of: Callable[..., GroupSummary]
) -> None:
    """An EnvRunner has died, and what it samples anew has lost its verdicts."""
    sampler = DynamicSampler(prompts_per_step=1, next_seed=0, estimate=known(50, of=100))
    assert sampler.ask() == [*range(2)]
    mixed = GroupSoFar(rewards=(1.0, -1.0), is_correct=(True, False), unfinished=6)
    sampler.offer([], {0: mixed})
    assert sampler.drop() == range(1, 2)
    sampler.offer([make_summary(0, rewards=(nan, nan), is_correct=(None, None))])
    assert sampler.ask()[0] == 1
    sampler.offer([group_of([True], 1)])
    assert [group.seed for group in sampler.accepted] == [1]


@given(wanted=st.integers(1, 600), accepted=st.integers(0, 1000), max_oversampling=st.floats(1, 50))
@example(wanted=10, accepted=0, max_oversampling=1.3)
def test_at_first_as_much_is_asked_for_as_the_estimate_says_within_max_oversampling(
    wanted: int, accepted: int, max_oversampling: float
) -> None:
    sampler = DynamicSampler(
        prompts_per_step=wanted,
        next_seed=5,
        estimate=known(accepted, of=1000),
        max_oversampling=max_oversampling,
    )
    seeds = sampler.ask()
    assert seeds[0] == 5
    assert wanted <= len(seeds) <= math.ceil(wanted * max_oversampling)
    if accepted * max_oversampling > 1001:
        rate = accepted / 1000
        further = 2 * math.sqrt(wanted) / rate if wanted > 128 else 0.0
        assert wanted / rate - 1 <= len(seeds) <= wanted / rate + further + 1
    assert len(sampler.ask()) == 0


def test_asking_ends_at_the_limit_and_spends_its_prompts(
    group_of: Callable[..., GroupSummary],
) -> None:
    run = Run(lambda seed: group_of([False], seed))
    sampler = run.step(prompts_per_step=2, max_rounds=3, max_oversampling=2)
    assert run.asked == [list(range(12))]
    assert sampler.is_done
    assert (sampler.wanted, sampler.next_seed, sampler.acceptance_rate) == (2, 12, 0.0)
    assert sampler.rounds == 3


def test_without_dynamic_sampling_as_much_is_asked_for_as_is_wanted(
    group_of: Callable[..., GroupSummary],
) -> None:
    run = Run(lambda seed: group_of([False], seed), estimate=known(25, of=100))
    run.step(prompts_per_step=4, dynamic_sampling=False)
    assert run.asked == [[0, 1, 2, 3]]
    assert run.accepted == [[0, 1, 2, 3]]


@pytest.mark.parametrize(("min_verdicts", "accepted"), [(1, [0, 2]), (2, [2])])
def test_a_batch_takes_groups_of_as_many_verdicts_as_are_needed(
    make_summary: MakeSummary, min_verdicts: int, accepted: list[int]
) -> None:
    sampler = DynamicSampler(
        prompts_per_step=3, next_seed=0, dynamic_sampling=False, min_verdicts=min_verdicts
    )
    rewards = [(nan, 1), (nan, nan), (1, 1)]
    sampler.offer([make_summary(seed, rewards=rewards[seed]) for seed in sampler.ask()])
    assert [group.seed for group in sampler.accepted] == accepted


def test_groups_that_were_sampled_again_take_the_place_of_those_before(
    make_summary: MakeSummary,
) -> None:
    sampler = DynamicSampler(prompts_per_step=3, next_seed=0)
    sampler.ask()
    mixed = {"rewards": (1, -1), "is_correct": (True, False)}
    sampler.offer(make_summary(seed, **mixed) for seed in range(3))

    longer = make_summary(1, **mixed, response_tokens=(5, 6))
    useless = make_summary(2, rewards=(1, 1), is_correct=(True, True))
    sampler.take_again([longer, useless])
    assert sampler.accepted == [make_summary(0, **mixed), longer]
    assert sampler.seen == [make_summary(0, **mixed), longer, useless]


def test_a_batch_that_fell_short_is_filled_up_with_groups_without_a_signal(
    make_summary: MakeSummary,
) -> None:
    sampler = DynamicSampler(prompts_per_step=3, next_seed=0, max_rounds=1, max_oversampling=5 / 3)
    verdicts = [(True, True), (True, False), (False, False), (True, True)]
    rewards = [tuple(1.0 if v else -1.0 for v in pair) for pair in verdicts]
    missing = make_summary(4, rewards=(nan, nan), is_correct=(None, None))
    made = [
        make_summary(seed, rewards=r, is_correct=v)
        for seed, (r, v) in enumerate(zip(rewards, verdicts, strict=True))
    ]
    while seeds := sampler.ask():
        sampler.offer(group for group in [*made, missing] if group.seed in seeds)
    assert [group.seed for group in sampler.accepted] == [1]

    sampler.fill_up()
    assert [group.seed for group in sampler.accepted] == [1, 0, 2]
    assert sampler.decisions[Decision.ACCEPTED] == 1
    sampler.take_again([made[0], made[1]])
    assert [group.seed for group in sampler.accepted] == [1, 0, 2]
    sampler.fill_up()  # a full batch stays as it is
    assert len(sampler.accepted) == 3
