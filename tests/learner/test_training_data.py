"""What an update is given: who trains on what, and where the tokens are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rllib_dapo.core import PromptGroup, TrainResponse, plan_minibatch
from rllib_dapo.core.batching import MiniBatchPlan, split_evenly
from rllib_dapo.learner.training_data import (
    GroupTrainingData,
    MicroBatches,
    MiniBatch,
    plan_batches,
)


@pytest.fixture(scope="module")
def groups(make_groups: Callable[..., dict[int, PromptGroup]]) -> dict[int, PromptGroup]:
    return make_groups(6)


@pytest.fixture(scope="module")
def plans(
    groups: dict[int, PromptGroup], train_responses: Callable[..., list[TrainResponse]]
) -> list[list[MiniBatchPlan]]:
    """Two mini-batches, each cut for two Learners."""
    return [
        plan_minibatch(
            part,
            loss_aggregation="token_mean",
            max_response_tokens=8,
            max_tokens_per_microbatch=40,
            num_shards=2,
        )
        for part in split_evenly(train_responses(groups), 2)
    ]


def places(shard: list[MiniBatchPlan]) -> set[tuple[int, int]]:
    return {
        (r.group, r.index) for minibatch in shard for micro in minibatch for r in micro.responses
    }


def test_each_learner_gets_its_own_responses_alone(
    groups: dict[int, PromptGroup], plans: list[list[MiniBatchPlan]]
) -> None:
    data = GroupTrainingData(groups=groups, shards=list(zip(*plans, strict=True)))
    data.validate()
    shards = [shard for shard, kwargs in data.shard(2) if kwargs == {}]
    one, two = (places(*shard.shards) for shard in shards)
    assert one | two == {(key, i) for key in groups for i in range(4)}
    assert not one & two
    for shard, mine in zip(shards, (one, two), strict=True):
        assert {(key, i) for key, part in shard.groups.items() for i in part.responses} == mine
        for key, i in mine:
            assert shard.groups[key].prompt_ids is groups[key].prompt_ids
            assert shard.groups[key].responses[i] == groups[key].responses[i].tokens
        shard.validate()
        shard.solve_refs()
        assert len(shard.shards[0]) == 2


def test_a_plan_for_another_number_of_learners_is_refused(
    groups: dict[int, PromptGroup], plans: list[list[MiniBatchPlan]]
) -> None:
    data = GroupTrainingData(groups=groups, shards=list(zip(*plans, strict=True)))
    with pytest.raises(ValueError, match="planned for 2 Learners, but there are 3"):
        data.shard(3)


def test_learners_with_unequal_numbers_of_steps_are_refused(
    plans: list[list[MiniBatchPlan]],
) -> None:
    whole, short = [plans[0][0], plans[1][0]], [plans[0][1]]
    with pytest.raises(ValueError, match="different numbers of mini- or micro-batches"):
        GroupTrainingData(shards=[whole, short]).validate()
    uneven = [plans[0][1], plans[1][1][:-1]]
    with pytest.raises(ValueError, match="different numbers of mini- or micro-batches"):
        GroupTrainingData(shards=[whole, uneven]).validate()


def test_a_minibatch_counts_responses(
    groups: dict[int, PromptGroup], plans: list[list[MiniBatchPlan]]
) -> None:
    plan = plans[0][0]
    micro = MicroBatches(
        batches=plan_batches(plan, groups, pad_token_id=0, device="cpu"),
        progress=1.0,
        is_first=True,
    )
    count = sum(len(part.responses) for part in plan)
    assert len(plan) > 1
    assert len(micro) == MiniBatch(policy_batches={"default_policy": micro}).env_steps() == count
