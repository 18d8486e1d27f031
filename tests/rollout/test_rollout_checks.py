"""A run whose environment gives no verdict, or judges other problems, ends with its reason."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.core import GroupSummary
from rllib_dapo.metrics.rollout_log import describe_shortfall
from rllib_dapo.rollout.dynamic_sampler import DynamicSampler
from rllib_dapo.rollout.group_decisions import Decision, decide
from rllib_dapo.rollout.rollout_checks import RolloutChecks
from rllib_dapo.rollout.rollout_result import SampledGroup

MakeSummary = Callable[..., GroupSummary]
DOWN = "timeout: no verdict within 5 s"


def check(checks: RolloutChecks, *groups: GroupSummary, version: int = 0) -> None:
    sampled = {group.seed: SampledGroup(summary=group, data=None) for group in groups}  # type: ignore[arg-type]
    checks.check(sampled, versions=range(version, version + 1))


@pytest.fixture
def config() -> DAPOConfig:
    config = DAPOConfig().environment("my_module:Judge").training(prompts_per_step=1)
    return config.dynamic_sampling(max_rounds_without_verdict=2)


@pytest.fixture
def silent(make_summary: MakeSummary) -> GroupSummary:
    return make_summary(0, rewards=(nan, nan), is_correct=(None, None), reasons=(DOWN, "other"))


def test_too_many_rounds_without_a_verdict_end_the_run_with_the_first_reason(
    config: DAPOConfig, silent: GroupSummary, make_summary: MakeSummary
) -> None:
    checks = RolloutChecks(config)
    heard = make_summary(1, rewards=(nan, 1.0), is_correct=(None, True), reasons=(DOWN, ""))
    for _ in range(3):  # one verdict, and counting begins again
        check(checks, silent)
        check(checks, silent)
        check(checks, silent, heard)

    check(checks, silent)
    check(checks, silent)
    with pytest.raises(RuntimeError, match="gave no verdict") as end:
        check(checks, silent)
    told = str(end.value)
    assert "environment.env=my_module:Judge" in told
    assert "3 rounds in a row" in told
    assert "dynamic_sampling.max_rounds_without_verdict=2" in told
    assert told.endswith(f"the first reason: {DOWN}")
    assert "\n" not in told


def test_a_round_has_as_many_groups_as_a_batch(
    config: DAPOConfig, silent: GroupSummary, make_summary: MakeSummary
) -> None:
    config.training(prompts_per_step=3).dynamic_sampling(max_rounds_without_verdict=1)
    checks = RolloutChecks(config)
    for _ in range(5):
        check(checks, silent)
    with pytest.raises(RuntimeError, match="2 rounds in a row"):
        check(checks, silent)


@pytest.mark.parametrize(
    ("is_correct", "told"),
    [
        ((True, True), "2 all_correct.*the model solves this task; give harder problems"),
        ((False, False), "2 all_wrong.*the task is too hard for this model"),
        ((None, None), "2 no_signal.*the same reward; let the environment grade more finely"),
    ],
)
def test_too_many_steps_without_a_signal_end_the_run_and_say_what_the_groups_were(
    config: DAPOConfig,
    make_summary: MakeSummary,
    is_correct: tuple[bool | None, ...],
    told: str,
) -> None:
    def step(*verdicts: bool | None) -> DynamicSampler:
        sampler = DynamicSampler(
            prompts_per_step=2, next_seed=0, max_rounds=1, max_oversampling=1.0
        )
        rewards = (1.0, 1.0) if verdicts[0] == verdicts[1] else (1.0, -1.0)
        summaries = (
            make_summary(seed, rewards=rewards, is_correct=verdicts) for seed in sampler.ask()
        )
        sampler.offer(summaries)
        return sampler

    checks = RolloutChecks(config.dynamic_sampling(max_steps_without_signal=2))
    for _ in range(3):  # one informative group, and counting begins again
        checks.check_step(step(*is_correct))
        checks.check_step(step(*is_correct))
        checks.check_step(step(True, False))
    checks.check_step(step(*is_correct))
    checks.check_step(step(*is_correct))
    with pytest.raises(RuntimeError, match=told) as end:
        checks.check_step(step(*is_correct))
    assert "3 training steps in a row" in str(end.value)
    assert "dynamic_sampling.max_steps_without_signal=2" in str(end.value)
    assert "\n" not in str(end.value)

    endless = RolloutChecks(config.dynamic_sampling(max_steps_without_signal=None))
    for _ in range(20):
        endless.check_step(step(*is_correct))


def test_without_a_limit_a_run_goes_on(config: DAPOConfig, silent: GroupSummary) -> None:
    checks = RolloutChecks(config.dynamic_sampling(max_rounds_without_verdict=None))
    for _ in range(50):
        check(checks, silent)


def test_lost_prompts_count_as_no_verdict_and_long_ones_do_not(
    config: DAPOConfig, make_summary: MakeSummary
) -> None:
    config.dynamic_sampling(max_rounds_without_verdict=0)
    check(RolloutChecks(config), make_summary(0, rewards=(), is_correct=(), reasons=()))
    lost = make_summary(0, rewards=(), is_correct=(), reasons=(), lost="crash: no such row")
    with pytest.raises(RuntimeError, match="the first reason: crash: no such row"):
        check(RolloutChecks(config), lost)
    assert decide(lost) is Decision.PROMPT_LOST


def test_an_environment_that_cannot_be_seeded_ends_the_run_where_that_is_the_rule(
    config: DAPOConfig, make_summary: MakeSummary
) -> None:
    told = "not seeded: reset(seed=0) gave the prompt '1', and then '2'"
    rule = make_summary(0, rewards=(nan, 1.0), is_correct=(None, True), reasons=(told, ""))
    with pytest.raises(RuntimeError, match="cannot be seeded: 1 of 2 responses") as end:
        check(RolloutChecks(config), rule)
    assert "reset(seed=0) gave the prompt '1', and then '2'" in str(end.value)

    exception = make_summary(
        0, rewards=(nan, 1.0, 1.0), is_correct=(None, True, True), reasons=(told, "", "")
    )
    check(RolloutChecks(config), exception)


def test_groups_of_other_weights_are_refused(config: DAPOConfig, make_summary: MakeSummary) -> None:
    with pytest.raises(RuntimeError, match=r"prompts \[0\] were sampled with other weights"):
        check(RolloutChecks(config), make_summary(0, rewards=(1.0, -1.0)), version=5)


def test_what_fell_short_for_lack_of_verdicts_gives_no_advice_about_rounds(
    config: DAPOConfig, silent: GroupSummary, make_summary: MakeSummary
) -> None:
    sampler = DynamicSampler(prompts_per_step=1, next_seed=0, max_rounds=2, max_oversampling=1.0)
    sampler.ask()
    sampler.offer([silent])
    told = describe_shortfall(sampler, config)
    assert told == f"no response got a verdict in 1 rounds (1 missing); the first reason: {DOWN}"

    assert sampler.ask() == [*range(1, 2)]
    sampler.offer([make_summary(1, rewards=(1.0, 1.0), is_correct=(True, True))])
    told = describe_shortfall(sampler, config)
    assert f"the first missing verdict: {DOWN}" in told
    assert "dynamic_sampling.max_rounds" in told
