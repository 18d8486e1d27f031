"""Prompt memory: what is expected of prompts, how often they are visited, and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import nan

import numpy as np
import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.config.value_checks import check_settings
from rllib_dapo.core import GroupSummary
from rllib_dapo.core.prompt_key import prompt_key, uniform_draw
from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.rollout.group_decisions import Decision
from rllib_dapo.rollout.prompt_memory import (
    EASY_RATE,
    HARD_RATE,
    LEAST_OFTEN,
    PromptMemory,
    PromptMemoryChoice,
    VisitRates,
    expected_information,
)
from rllib_dapo.rollout.prompt_place import PromptPlace

MakeSummary = Callable[..., GroupSummary]
MakeConfig = Callable[..., DAPOConfig]


def group(make: MakeSummary, key: int, *verdicts: bool | None, version: int = 0) -> GroupSummary:
    rewards = [nan if v is None else 1.0 if v else -1.0 for v in verdicts]
    made = make(key, rewards=rewards, is_correct=verdicts)
    return replace(made, prompt_key=key, weights_version=version)


def rate_of(memory: PromptMemory, key: int) -> float:
    rates = memory.visit_rates()
    return dict(zip(rates.keys.tolist(), rates.rates.tolist(), strict=True)).get(key, 1.0)


# Keys and draws


def test_a_key_is_that_of_the_tokens_and_the_same_everywhere() -> None:
    ids = np.array([3, 1, 2], dtype=np.int32)
    assert prompt_key(ids) == prompt_key(np.array([3, 1, 2], dtype=np.int64))
    assert prompt_key(ids) == 16677921489277536816  # and in every other process
    assert len({prompt_key(np.array([n], dtype=np.int32)) for n in range(1000)}) == 1000


def test_draws_are_even_and_differ_by_key_and_by_seed() -> None:
    draws = np.array([uniform_draw(key, seed) for key in range(50) for seed in range(200)])
    counts, _ = np.histogram(draws, bins=10, range=(0, 1))
    assert counts.sum() == len(draws)
    assert np.all(abs(counts - 1000) < 150)  # five standard deviations
    assert len(set(draws)) == len(draws)


# What is expected of a prompt


@pytest.mark.parametrize(
    ("right", "wrong", "group_size", "expected"),
    [
        # Beta(a, b): E[p^2] = a (a + 1) / ((a + b) (a + b + 1)), and E[2 p (1 - p)] is
        # 2 (E[p] - E[p^2]).
        (0, 0, 2, 1 / 12),  # a = b = 1/10: 2 (1/2 - 11/24)
        (1, 1, 2, 11 / 32),  # 11/10 both: 2 (1/2 - 21/64)
        (0, 1, 2, 1 / 12),  # 1/10 and 11/10: 2 (1/12 - 1/24)
        # E[p^3] = E[p^2] (a + 2) / (a + b + 2) = 11/24 * 21/22 = 7/16, and so for 1 - p.
        (0, 0, 3, 1 / 8),
    ],
)
def test_expected_information_by_hand(
    right: float, wrong: float, group_size: int, expected: float
) -> None:
    assert expected_information(right, wrong, group_size) == pytest.approx(expected, rel=1e-6)
    assert expected_information(wrong, right, group_size) == pytest.approx(expected, rel=1e-6)


def test_expected_information_is_the_mean_over_draws_of_the_posterior() -> None:
    p = np.random.default_rng(0).beta(0.1 + 3, 0.1 + 5, size=400_000)
    drawn = np.mean(1 - p**8 - (1 - p) ** 8)
    assert expected_information(3, 5, 8) == pytest.approx(drawn, abs=2e-3)


@pytest.mark.parametrize("verdict", [True, False])
def test_plain_visits_a_prompt_less_often_with_each_visit_in_a_row_without_a_signal(
    make_summary: MakeSummary, *, verdict: bool
) -> None:
    memory = PromptMemory("plain", group_size=2)
    assert rate_of(memory, 7) == 1.0
    for expected in (1 / 4, 1 / 16, 1 / 16):
        memory.remember([group(make_summary, 7, verdict, verdict)])
        assert rate_of(memory, 7) == expected
    memory.remember([group(make_summary, 7, True, False)])
    assert rate_of(memory, 7) == 1.0
    assert rate_of(memory, 8) == 1.0


def test_pools_go_by_the_success_rate_in_which_each_visit_halves_the_earlier_ones(
    make_summary: MakeSummary,
) -> None:
    memory = PromptMemory("pools", group_size=10)
    memory.remember([group(make_summary, 1, *[True] * 9, False)])
    assert rate_of(memory, 1) == EASY_RATE  # 9 of 10
    memory.remember([group(make_summary, 1, *[False] * 10)])
    assert rate_of(memory, 1) == 1.0  # 4.5 of 15
    for _ in range(2):
        memory.remember([group(make_summary, 1, *[False] * 10)])
    assert rate_of(memory, 1) == HARD_RATE  # 1.125 of 18.75


def test_information_visits_least_what_it_is_surest_of_and_always_what_is_half_right(
    make_summary: MakeSummary,
) -> None:
    memory = PromptMemory("information", group_size=16)
    memory.remember(
        [
            group(make_summary, 1, *[False] * 16),
            group(make_summary, 2, *[True] * 8, *[False] * 8),
            group(make_summary, 3, True, *[False] * 15),
        ]
    )
    assert rate_of(memory, 2) == 1.0
    share = expected_information(0, 16, 16) / expected_information(0, 0, 16)
    assert rate_of(memory, 1) == pytest.approx(share**2, rel=1e-6)
    assert rate_of(memory, 3) == 1.0, "one right response of 16 lets a signal be expected"
    before = rate_of(memory, 1)
    for _ in range(2):
        memory.remember([group(make_summary, key, *[False] * 16) for key in (1, 3)])
    assert LEAST_OFTEN == rate_of(memory, 1) < before
    assert LEAST_OFTEN < rate_of(memory, 3) < 1.0


@pytest.mark.parametrize("choice", ["plain", "information", "pools"])
def test_no_prompt_is_given_up_for_ever(
    make_summary: MakeSummary, choice: PromptMemoryChoice
) -> None:
    memory = PromptMemory(choice, group_size=16)
    for _ in range(100):
        memory.remember([group(make_summary, 5, *[False] * 16)])
    assert rate_of(memory, 5) >= LEAST_OFTEN
    rates = memory.visit_rates()
    visited = sum(rates.visits(5, seed) for seed in range(16_000))
    assert visited == pytest.approx(16_000 * rate_of(memory, 5), rel=0.1)


@pytest.mark.parametrize("choice", ["plain", "information", "pools"])
def test_graded_rewards_are_judged_by_their_signals(
    make_summary: MakeSummary, choice: PromptMemoryChoice
) -> None:
    memory = PromptMemory(choice, group_size=2)
    equal = make_summary(0, rewards=(0.3, 0.3))
    memory.remember([replace(equal, prompt_key=1)])
    assert rate_of(memory, 1) == 1 / 4
    memory.remember([replace(make_summary(0, rewards=(0.3, 0.6)), prompt_key=1)])
    assert rate_of(memory, 1) == 1.0


def test_nothing_is_learnt_where_verdicts_are_missing_or_nothing_was_sampled(
    make_summary: MakeSummary,
) -> None:
    memory = PromptMemory("plain", group_size=2)
    nothing = make_summary(3, rewards=(), is_correct=())
    memory.remember(
        [
            group(make_summary, 1, None, None),
            group(make_summary, 2, True, None),
            nothing,
            replace(nothing, skipped=True),
            replace(nothing, lost="crash: x"),
        ]
    )
    assert len(memory) == 0


# What is kept


def test_those_longest_unseen_are_forgotten_first(make_summary: MakeSummary) -> None:
    memory = PromptMemory("plain", group_size=2, capacity=2)
    memory.remember([group(make_summary, key, True, True) for key in (1, 2, 1, 3)])
    assert memory.record(2) is None
    assert [rate_of(memory, key) for key in (1, 2, 3)] == [1 / 16, 1.0, 1 / 4]


@pytest.mark.parametrize("choice", ["plain", "information", "pools"])
def test_a_restored_memory_is_the_same_one(
    make_summary: MakeSummary, choice: PromptMemoryChoice
) -> None:
    memory = PromptMemory(choice, group_size=2, capacity=5)
    draws = np.random.default_rng(1)
    for version in range(20):
        keys = draws.integers(0, 9, size=2)
        memory.remember(
            group(make_summary, int(key), *draws.integers(0, 2, size=2) == 1, version=version)
            for key in keys
        )
    again = PromptMemory(choice, group_size=2, capacity=5)
    again.set_state(memory.get_state())

    keys = range(9)
    assert [again.record(key) for key in keys] == [memory.record(key) for key in keys]
    assert any(memory.record(key) is not None for key in keys)
    for one in (memory, again):  # and they forget in the same order
        one.remember([group(make_summary, 100, True, True)])
    assert [again.record(key) for key in keys] == [memory.record(key) for key in keys]
    assert again.visit_rates().keys.tolist() == memory.visit_rates().keys.tolist()


# In a step


def test_skipped_groups_cost_no_budget_and_say_nothing_about_acceptance(
    make_summary: MakeSummary,
) -> None:
    sampler = DynamicSampler(prompts_per_step=2, next_seed=0, max_rounds=1, max_oversampling=2.0)
    asked = list(sampler.ask())
    assert asked == [0, 1]
    skipped = [
        replace(make_summary(seed, rewards=(), is_correct=()), skipped=True) for seed in asked
    ]
    sampler.offer(skipped)
    assert sampler.decisions == {Decision.SKIPPED: 2}
    assert not sampler.is_done
    assert sampler.asked == 0
    assert sampler.acceptance_rate == 1.0

    assert list(sampler.ask()) == [2, 3]
    sampler.offer([group(make_summary, seed, True, False) for seed in (2, 3)])
    assert sampler.is_done
    assert sampler.acceptance_rate == 1.0
    assert [summary.seed for summary in sampler.accepted] == [2, 3]
    assert sampler.next_seed == 4


def test_an_env_runner_samples_nothing_for_a_prompt_that_is_not_visited(
    rollout_config: MakeConfig,
) -> None:
    runner = TextEnvRunner(config=rollout_config())
    all_groups = [sampled.group() for sampled in runner.sample_groups(range(4)).groups]
    never = prompt_key(all_groups[2].prompt_ids)
    rates = VisitRates(
        keys=np.array([never], dtype=np.uint64), rates=np.array([0.0], dtype=np.float32)
    )

    groups: dict[int, GroupSummary] = {}
    while len(groups) < 4:
        result = runner.advance(
            range(4) if not groups else [], call=1, batch=1, seconds=60.0, rates=rates
        )
        groups |= {sampled.summary.seed: sampled.summary for sampled in result.groups}
    left_out = {seed for seed, one in enumerate(all_groups) if prompt_key(one.prompt_ids) == never}
    assert {seed for seed, summary in groups.items() if summary.skipped} == left_out
    assert {seed for seed, summary in groups.items() if not summary.rewards} == left_out
    assert 0 < len(left_out) < 4


def test_a_run_goes_on_with_its_memory_and_without_one_knows_no_prompt(
    make_summary: MakeSummary,
) -> None:
    config = DAPOConfig().training(prompts_per_step=1, group_size=2)
    config.dynamic_sampling(prompt_memory="plain").env_runners(num_env_runners=0)
    place = PromptPlace(config)
    sampler, rates = place.begin_step(), place.visit_rates()
    assert isinstance(rates, VisitRates)
    assert len(rates.keys) == 0
    sampler.ask()
    sampler.offer([group(make_summary, 0, True, True)])
    sampler.ask()
    sampler.offer([group(make_summary, 1, True, False)])
    place.end_step(sampler)
    assert place.next_seed == 2
    assert place.estimate.rate == pytest.approx(2 / 3)

    again = PromptPlace(config)
    again.set_state(place.get_state())
    assert (again.next_seed, again.estimate) == (2, place.estimate)
    rates = again.visit_rates()
    assert isinstance(rates, VisitRates)
    assert rates.keys.tolist() == [0]

    without = PromptPlace(config)
    state = place.get_state()
    without.set_state({name: state[name] for name in ("next_seed", "accepted_groups")})
    assert without.memory is not None
    assert len(without.memory) == 0


def test_memory_is_refused_where_groups_are_not_tested() -> None:
    config = DAPOConfig().dynamic_sampling(enabled=False, prompt_memory="pools")
    (found,) = [line for line in check_settings(config) if "prompt_memory" in line]
    assert found.startswith("dynamic_sampling.prompt_memory=pools skips prompts")
    assert "dynamic_sampling.enabled is false" in found
