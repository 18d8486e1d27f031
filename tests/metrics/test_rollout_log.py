"""What is said where dynamic sampling did not fill the batch, and what ends a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.core import GroupSummary
from rllib_dapo.metrics.rollout_log import check_shortfall, describe_shortfall
from rllib_dapo.rollout.dynamic_sampler import DynamicSampler

MakeSummary = Callable[..., GroupSummary]


def sampler_of(groups: Sequence[GroupSummary]) -> DynamicSampler:
    sampler = DynamicSampler(prompts_per_step=4, next_seed=0, max_rounds=1)
    sampler.ask()
    sampler.offer(groups)
    return sampler


def long(make_summary: MakeSummary, seed: int, tokens: int) -> GroupSummary:
    return replace(make_summary(seed, rewards=()), prompt_tokens=tokens)


@pytest.mark.parametrize("on_shortfall", ["train_partial", "raise"])
def test_a_step_without_a_prompt_that_fits_ends_the_run(
    make_summary: MakeSummary, on_shortfall: str
) -> None:
    config = DAPOConfig().rollout(max_prompt_tokens=16)
    config.dynamic_sampling(on_shortfall=on_shortfall)
    sampler = sampler_of([long(make_summary, seed, 20 + seed) for seed in range(4)])
    with pytest.raises(RuntimeError) as raised:
        check_shortfall(sampler, config)
    assert str(raised.value) == (
        "none of this step's 4 prompts fits into rollout.max_prompt_tokens=16: they have 20 to 23 "
        "tokens; raise rollout.max_prompt_tokens, or give shorter prompts"
    )


def test_where_some_fit_the_advice_names_the_limit_too(make_summary: MakeSummary) -> None:
    config = DAPOConfig().rollout(max_prompt_tokens=16)
    wrong = make_summary(0, rewards=(-1.0, -1.0), is_correct=(False, False))
    sampler = sampler_of([wrong, long(make_summary, 1, 30), long(make_summary, 2, 17)])
    check_shortfall(sampler, config)  # training goes on
    said = describe_shortfall(sampler, config)
    assert "Raise rollout.max_prompt_tokens=16 (prompts that do not fit have 17 to 30" in said

    config.dynamic_sampling(on_shortfall="raise")
    with pytest.raises(RuntimeError, match=r"rollout.max_prompt_tokens=16"):
        check_shortfall(sampler, config)


def test_where_all_fit_the_limit_is_not_named(make_summary: MakeSummary) -> None:
    wrong = make_summary(0, rewards=(-1.0, -1.0), is_correct=(False, False))
    said = describe_shortfall(sampler_of([wrong]), DAPOConfig())
    assert "Raise dynamic_sampling.max_rounds=10 or training.group_size=16" in said
    assert "max_prompt_tokens" not in said
