"""From accepted groups to an update: rewards, advantages, and who trains on what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from typing import Any

import numpy as np
import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.core import GroupSummary, PromptGroup, Response, RowWork
from rllib_dapo.planning import plan_scoring, plan_update, shape_groups
from rllib_dapo.rollout.rollout_result import SampledGroup

MakeSummary = Callable[..., GroupSummary]


@pytest.fixture
def config() -> DAPOConfig:
    """Responses of at most 8 tokens, of which the last 4 are punished; advantages not divided."""
    return (
        DAPOConfig()
        .rollout(max_response_tokens=8)
        .overlong(buffer_tokens=4)
        .training(
            normalize_advantages_by_std=False, prompts_per_step=4, group_size=2, minibatch_size=4
        )
    )


def sampled(summary: GroupSummary) -> SampledGroup:
    """A group with tokens of the summary's lengths."""
    responses = tuple(
        Response(
            token_ids=np.arange(n, dtype=np.int32),
            loss_mask=np.ones(n, dtype=np.bool_),
            logprobs=np.zeros(n, dtype=np.float32),
            finish_reason="stop",
            reward=reward,
            is_correct=None,
            text="",
        )
        for n, reward in zip(summary.response_tokens, summary.rewards, strict=True)
    )
    prompt = np.arange(summary.prompt_tokens, dtype=np.int32)
    data = PromptGroup(
        seed=summary.seed, prompt="", prompt_ids=prompt, responses=responses, weights_version=0
    )
    return SampledGroup(summary=summary, data=data)


def shaped(group: GroupSummary, config: DAPOConfig) -> dict[int, tuple[float, float, float]]:
    """Reward, advantage and punishment of each response that is trained on."""
    return {
        one.response.index: (one.response.reward, one.response.advantage, one.penalty)
        for one in shape_groups({3: group}, config)
    }


def approximately(values: dict[int, tuple[float, float, float]]) -> Any:
    return {index: pytest.approx(numbers) for index, numbers in values.items()}


# Shaping


def test_long_responses_are_punished_before_they_are_compared(
    make_summary: MakeSummary, config: DAPOConfig
) -> None:
    group = make_summary(rewards=(1, 1, -1, -1), response_tokens=(4, 6, 8, 2))
    # 6 tokens: half of the punishment; 8: all of it; the mean of 1, 0.5, -2, -1 is -0.375
    expected = {0: (1, 1.375, 0), 1: (0.5, 0.875, -0.5), 2: (-2, -1.625, -1), 3: (-1, -0.625, 0)}
    assert shaped(group, config) == approximately(expected)
    config.overlong(penalty=0.0)
    assert {index: advantage for index, (_, advantage, _) in shaped(group, config).items()} == {
        0: 1,
        1: 1,
        2: -1,
        3: -1,
    }


def test_a_response_says_where_its_tokens_are_and_how_many(
    make_summary: MakeSummary, config: DAPOConfig
) -> None:
    one, two = (
        one.response
        for one in shape_groups({3: make_summary(rewards=(1, -1), response_tokens=(2, 3))}, config)
    )

    assert (one.group, one.index, one.prompt_tokens, one.response_tokens, one.loss_tokens) == (
        3,
        0,
        4,
        2,
        2,
    )
    assert (two.group, two.index, two.prompt_tokens, two.response_tokens, two.loss_tokens) == (
        3,
        1,
        4,
        3,
        3,
    )


@pytest.mark.parametrize(
    ("in_baseline", "advantages"),
    [
        # rewards 1, -1 and, truncated, -1 - 1: with it the mean is -2/3, without it 0
        (True, {0: 5 / 3, 1: -1 / 3}),
        (False, {0: 1.0, 1: -1.0}),
    ],
)
def test_filtering_takes_truncated_responses_out_of_the_loss_and_perhaps_out_of_the_mean(
    make_summary: MakeSummary, config: DAPOConfig, in_baseline: bool, advantages: dict[int, float]
) -> None:
    config.overlong(filtering=True, truncated_in_baseline=in_baseline)
    group = make_summary(
        rewards=(1, -1, -1), response_tokens=(3, 3, 8), is_truncated=(False, False, True)
    )
    found = {index: advantage for index, (_, advantage, _) in shaped(group, config).items()}
    assert found == pytest.approx(advantages)


def test_without_filtering_truncated_responses_are_trained_on(
    make_summary: MakeSummary, config: DAPOConfig
) -> None:
    config.overlong(truncated_in_baseline=False)
    group = make_summary(rewards=(1, -1), response_tokens=(3, 8), is_truncated=(False, True))
    assert shaped(group, config) == approximately({0: (1, 1.5, 0), 1: (-2, -1.5, -1)})


def test_one_response_left_has_nothing_to_be_compared_with(
    make_summary: MakeSummary, config: DAPOConfig
) -> None:
    config.overlong(filtering=True, truncated_in_baseline=False)
    group = make_summary(rewards=(1, -1), response_tokens=(3, 8), is_truncated=(False, True))
    assert shaped(group, config) == approximately({0: (1, 0, 0)})


def test_a_response_without_a_verdict_counts_nowhere(
    make_summary: MakeSummary, config: DAPOConfig
) -> None:
    assert shaped(make_summary(rewards=(1, nan, -1)), config) == approximately(
        {0: (1, 1, 0), 2: (-1, -1, 0)}
    )


def test_a_response_without_loss_tokens_counts_in_the_mean_alone(
    make_summary: MakeSummary, config: DAPOConfig
) -> None:
    group = make_summary(rewards=(1, -1), response_tokens=(3, 0))
    assert shaped(group, config) == approximately({0: (1, 1, 0)})


def test_the_baseline_may_leave_a_response_itself_out(
    make_summary: MakeSummary, config: DAPOConfig
) -> None:
    config.training(advantage_estimator="leave_one_out")
    found = shaped(make_summary(rewards=(1, 0, -1, nan)), config)
    assert found == approximately({0: (1, 1.5, 0), 1: (0, 0, 0), 2: (-1, -1.5, 0)})


def test_advantages_are_divided_by_the_groups_deviation(
    make_summary: MakeSummary, config: DAPOConfig
) -> None:
    config.training(normalize_advantages_by_std=True)
    found = shaped(make_summary(rewards=(1, 1, -1, -1)), config)
    expected = 1 / (4 / 3) ** 0.5  # one less than four degrees of freedom
    assert [advantage for _, advantage, _ in found.values()] == pytest.approx(
        [expected, expected, -expected, -expected], rel=1e-5
    )


def test_with_a_critic_advantages_wait_for_its_values(
    make_summary: MakeSummary, config: DAPOConfig
) -> None:
    config.training(advantage_estimator="gae")
    found = shaped(make_summary(rewards=(1, nan, -1), response_tokens=(3, 3, 6)), config)
    assert found == approximately({0: (1, 0, 0), 2: (-1.5, 0, -0.5)})


@pytest.mark.parametrize("num_learners", [0, 1, 2, 3])
def test_an_estimator_of_the_batch_sees_every_group_whatever_the_number_of_learners(
    make_summary: MakeSummary, config: DAPOConfig, num_learners: int
) -> None:
    """Also a response that is punished, and not one without a verdict or one that is filtered."""
    config.learners(num_learners=num_learners).overlong(
        filtering=True, truncated_in_baseline=False
    ).training(
        advantage_estimator="batch_std",
        normalize_advantages_by_std=True,
        max_tokens_per_microbatch=20,
    )
    groups = {
        0: sampled(make_summary(0, rewards=(1, -1, nan))),
        1: sampled(make_summary(1, rewards=(1, 1, -1), response_tokens=(3, 6, 3))),
        2: sampled(make_summary(2, rewards=(1, -1, 1), is_truncated=(False, False, True))),
    }
    data, _ = plan_update([group.summary for group in groups.values()], groups, config)
    found = {
        (r.group, r.index): r.advantage
        for shard in data.shards
        for minibatch in shard
        for micro in minibatch
        for r in micro.responses
    }
    # 6 tokens have half of the punishment: rewards 1, -1 | 1, 0.5, -1 | 1, -1
    std = np.std([1, -1, 1, 0.5, -1, 1, -1], ddof=1) + 1e-6
    mean = 0.5 / 3
    assert found == pytest.approx(
        {
            (0, 0): 1 / std,
            (0, 1): -1 / std,
            (1, 0): (1 - mean) / std,
            (1, 1): (0.5 - mean) / std,
            (1, 2): (-1 - mean) / std,
            (2, 0): 1 / std,
            (2, 1): -1 / std,
        }
    )


# Planning


def places(shards: Sequence[Any]) -> list[tuple[int, int]]:
    return sorted(
        (r.group, r.index)
        for shard in shards
        for minibatch in shard
        for micro in minibatch
        for r in micro.responses
    )


@pytest.mark.parametrize("num_learners", [0, 1, 2, 3])
def test_every_response_is_trained_on_once_in_minibatches_of_the_size_asked_for(
    make_summary: MakeSummary, config: DAPOConfig, num_learners: int
) -> None:
    config.learners(num_learners=num_learners).training(max_tokens_per_microbatch=20)
    groups = {
        10 + i: sampled(
            make_summary(10 + i, rewards=(1, nan if i == 2 else -1), response_tokens=(2 + i, 3))
        )
        for i in range(4)
    }
    data, figures = plan_update([group.summary for group in groups.values()], groups, config)
    data.validate()

    assert len(data.shards) == max(1, num_learners)
    assert {len(shard) for shard in data.shards} == {2}  # 7 responses in mini-batches of about 4
    assert places(data.shards) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0), (3, 1)]
    assert data.groups == {i: groups[10 + i].data for i in range(4)}
    # 7 responses of 2, 3, 3, 3, 4, 5, 3 tokens: the fifth is one token over and loses a quarter
    assert figures == pytest.approx(
        {
            "overlong_buffer_tokens": 4,
            "overlong_penalty_mean": -0.25 / 7,
            "shaped_reward_mean": (4 - 3 - 0.25) / 7,
        }
    )


def test_prompts_are_shared_by_default_once_the_model_was_checked(
    make_summary: MakeSummary, config: DAPOConfig
) -> None:
    groups = [make_summary(seed=seed, rewards=(1.0, -1.0)) for seed in range(2)]
    given = {group.seed: sampled(group) for group in groups}

    def responses_of_rows() -> list[int]:
        data, _ = plan_update(groups, given, config)
        assert data is not None
        rows = [row for minibatch in data.shards[0] for micro in minibatch for row in micro.rows]
        return [len(row) for row in rows]

    assert config.max_shared_row_tokens == "auto"
    assert responses_of_rows() == [1, 1, 1, 1]
    config.row_work = RowWork()
    assert responses_of_rows() == [2, 2]
    config.training(max_shared_row_tokens=0)
    assert responses_of_rows() == [1, 1, 1, 1]


def test_a_partial_batch_makes_fewer_minibatches_and_at_least_one(
    make_summary: MakeSummary, config: DAPOConfig
) -> None:
    group = sampled(make_summary(0, rewards=(1, -1)))
    data, _ = plan_update([group.summary], {0: group}, config.training(minibatch_size=512))
    assert [len(shard) for shard in data.shards] == [1]


def test_nothing_to_train_on_is_no_update(make_summary: MakeSummary, config: DAPOConfig) -> None:
    assert plan_update([], {}, config) == (None, {})
    config.overlong(filtering=True)
    cut = sampled(make_summary(0, rewards=(1, -1), is_truncated=(True, True)))
    assert plan_update([cut.summary], {0: cut}, config) == (None, {})


@pytest.mark.parametrize("num_learners", [0, 1, 2, 3])
@pytest.mark.parametrize("groups", [1, 4])
def test_scoring_gives_every_learner_equally_many_micro_batches(
    make_summary: MakeSummary, config: DAPOConfig, num_learners: int, groups: int
) -> None:
    """Every response with loss tokens is scored, with a verdict or without."""
    config.learners(num_learners=num_learners).training(max_tokens_per_microbatch=20)
    given = [
        sampled(make_summary(7 + i, rewards=(1, nan, -1), response_tokens=(2, 3, i)))
        for i in range(groups)
    ]
    shards = plan_scoring(given, config)

    assert len(shards) == max(1, num_learners)

    counts = set()
    for data in shards:
        ((plan,),) = data.shards
        counts.add(len(plan))
        assert data.groups == {i: group.data for i, group in enumerate(given)}

    assert len(counts) == 1

    scored = places([shard for data in shards for shard in data.shards])
    assert scored == [(i, j) for i in range(groups) for j in range(3) if (i, j) != (0, 2)]
