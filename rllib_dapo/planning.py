"""From accepted groups to an update: shaped rewards, advantages, and who trains on what.

All of it follows from the groups' summaries. Lengths are known before a token moves, so the driver
fixes mini-batches, micro-batches of like work, and the weight of each response's
tokens in the loss, whatever the number of Learners.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from rllib_dapo.core import (
    GroupSummary,
    RowWork,
    TrainResponse,
    plan_minibatch,
    soft_overlong_punishment,
)
from rllib_dapo.core.batching import MiniBatchPlan, split_evenly
from rllib_dapo.learner.group_comparison import compare_responses
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.rollout.rollout_result import SampledGroup

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapedResponse:
    """A response as the update sees it.

    Attributes:
        response: Its lengths, shaped reward and advantage.
        penalty: Soft overlong punishment that is part of its reward; 0 or negative.
    """

    response: TrainResponse
    penalty: float


def plan_update(
    accepted: Sequence[GroupSummary], groups: Mapping[int, SampledGroup], config: DAPOConfig
) -> tuple[GroupTrainingData | None, dict[str, float]]:
    """Plans one training step's update.

    Args:
        accepted: Summaries of the informative groups.
        groups: The groups, or references to them, by prompt seed.
        config: The algorithm's configuration.

    Returns:
        The training data, None if no response can be trained on; and figures on the shaping of
        rewards, by name.
    """
    shaped = shape_groups(dict(enumerate(accepted)), config)
    if not shaped:
        return None, {}

    # Mini-batches are of like size, about `training.minibatch_size` responses each.
    responses = [one.response for one in shaped]
    count = min(len(responses), max(1, round(len(responses) / config.minibatch_size)))
    plans = [plan_responses(part, config) for part in split_evenly(responses, count)]

    data = GroupTrainingData(
        groups={index: groups[group.seed].tokens for index, group in enumerate(accepted)},
        shards=list(zip(*plans, strict=True)),
    )
    return data, {
        "overlong_buffer_tokens": config.overlong_buffer,
        "overlong_penalty_mean": sum(one.penalty for one in shaped) / len(shaped),
        "shaped_reward_mean": sum(response.reward for response in responses) / len(responses),
    }


def plan_scoring(groups: Sequence[SampledGroup], config: DAPOConfig) -> list[GroupTrainingData]:
    """Plans the scoring of responses without training on them.

    Args:
        groups: Groups whose responses are to be scored, with a verdict or without.
        config: The algorithm's configuration.

    Returns:
        For each Learner, its groups and one mini-batch.
    """
    responses = [
        _train_response(group.summary, index, i, advantage=0.0, reward=0.0)
        for index, group in enumerate(groups)
        for i in range(len(group.summary.rewards))
        if group.summary.loss_tokens[i]
    ]
    data = {index: group.tokens for index, group in enumerate(groups)}
    return [
        GroupTrainingData(groups=data, shards=[[plan]])
        for plan in plan_responses(responses, config)
    ]


def shape_groups(groups: Mapping[int, GroupSummary], config: DAPOConfig) -> list[ShapedResponse]:
    """Rewards with the soft overlong punishment (Eq. 13), and advantages (Eq. 9).

    Overlong filtering takes truncated responses out of the loss, and `truncated_in_baseline` says
    whether they still count in the group's mean. Responses without a verdict count nowhere. With a
    critic, advantages come later.

    Args:
        groups: Summaries of all accepted groups, by their index in the training data.
        config: The algorithm's configuration.

    Returns:
        The responses that have a part in the loss.
    """
    penalties = {
        index: [_overlong_penalty(tokens, config) for tokens in group.response_tokens]
        for index, group in groups.items()
    }
    rewards = {
        index: torch.tensor(group.rewards, dtype=torch.float64)
        + torch.tensor(penalties[index], dtype=torch.float64)
        for index, group in groups.items()
    }

    compared = {
        index: rewards[index].masked_fill(
            torch.tensor([_is_filtered(group, i, config) for i in range(len(group.rewards))])
            & (not config.truncated_in_baseline),
            math.nan,
        )
        for index, group in groups.items()
    }
    advantages = (
        {index: torch.zeros_like(of_group) for index, of_group in rewards.items()}
        if config.has_critic
        else dict(zip(groups, compare_responses(list(compared.values()), config), strict=True))
    )

    return [
        ShapedResponse(
            response=_train_response(
                group,
                index,
                i,
                advantage=float(advantages[index][i]),
                reward=float(rewards[index][i]),
            ),
            penalty=penalties[index][i],
        )
        for index, group in groups.items()
        for i in range(len(group.rewards))
        if not math.isnan(group.rewards[i])
        and group.loss_tokens[i]
        and not _is_filtered(group, i, config)
    ]


def _is_filtered(group: GroupSummary, i: int, config: DAPOConfig) -> bool:
    """Whether overlong filtering takes a response out of the loss."""
    return config.overlong_filtering and bool(group.is_truncated[i])


def plan_responses(responses: Sequence[TrainResponse], config: DAPOConfig) -> list[MiniBatchPlan]:
    """Plans one mini-batch.

    Args:
        responses: Its responses, those of a group next to each other.
        config: The algorithm's configuration.

    Returns:
        The plan of each Learner.
    """
    return plan_minibatch(
        responses,
        loss_aggregation=config.loss_aggregation,
        max_response_tokens=config.max_response_tokens,
        max_tokens_per_microbatch=config.max_tokens_per_microbatch,
        max_row_tokens=_max_row_tokens(config),
        num_shards=max(1, config.num_learners),
        work=config.row_work or RowWork(),
    )


def _max_row_tokens(config: DAPOConfig) -> int | Literal["auto"]:
    """The setting; `auto` shares nothing with a model that `model_check` has not checked."""
    is_unchecked = config.row_work is None and config.max_shared_row_tokens == "auto"
    return 0 if is_unchecked else config.max_shared_row_tokens


def _overlong_penalty(response_tokens: int, config: DAPOConfig) -> float:
    return soft_overlong_punishment(
        response_tokens,
        max_response_tokens=config.max_response_tokens,
        buffer_tokens=config.overlong_buffer,
        penalty=config.overlong_penalty,
    )


def _train_response(
    group: GroupSummary, index: int, i: int, *, advantage: float, reward: float
) -> TrainResponse:
    return TrainResponse(
        group=index,
        index=i,
        prompt_tokens=group.prompt_tokens,
        response_tokens=group.response_tokens[i],
        loss_tokens=group.loss_tokens[i],
        advantage=advantage,
        reward=reward,
    )
