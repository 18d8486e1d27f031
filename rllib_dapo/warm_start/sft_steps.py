"""Which records make up each optimizer step, and what the Learners are asked in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from rllib_dapo.core.batching import split_evenly
from rllib_dapo.envs.splits import DatasetOrder
from rllib_dapo.learner.collectives import rank
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.models.supervised_tokens import SupervisedTokens
from rllib_dapo.planning import plan_responses
from rllib_dapo.warm_start.sft_data import as_training_data

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.learner.learner import DAPOTorchLearner


def count_steps(num_records: int, *, epochs: int, batch_size: int) -> int:
    """Number of optimizer steps: mini-batches of all epochs are of like size."""
    return max(1, round(num_records * epochs / batch_size))


def step_records(
    records: Sequence[SupervisedTokens], *, epochs: int, steps: int, seed: int
) -> Iterator[list[SupervisedTokens]]:
    """Yields the records of each step; each epoch visits all of them once, in another order.

    Args:
        records: Records that are learnt.
        epochs: Number of epochs.
        steps: Number of optimizer steps.
        seed: Chooses the order.
    """
    order = DatasetOrder(size=len(records), seed=seed)
    for positions in split_evenly(range(len(records) * epochs), steps):
        yield [records[order(position)] for position in positions]


def learn(
    learner_group: LearnerGroup, records: Sequence[SupervisedTokens], config: DAPOConfig
) -> dict[str, float]:
    """Takes one optimizer step.

    Args:
        learner_group: The Learners.
        records: Records of the mini-batch.
        config: Their configuration.

    Returns:
        The Learners' figures by name; see `metrics.learner_metrics`.
    """
    groups, responses = as_training_data(records)
    data = GroupTrainingData(
        groups=groups, shards=[[plan] for plan in plan_responses(responses, config)]
    )
    # Totals over all Learners, so that each has the same figures.
    results = learner_group.update(
        training_data=data, timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 0}
    )
    return {name: _number(stats) for name, stats in results[0][DEFAULT_MODULE_ID].items()}


def mean_loss(
    learner_group: LearnerGroup, records: Sequence[SupervisedTokens], config: DAPOConfig
) -> float:
    """Mean of `-log π` over all tokens with loss, without learning them, in nats.

    Args:
        learner_group: The Learners.
        records: At least one record.
        config: Their configuration.
    """
    groups, responses = as_training_data(records)
    shards = [
        GroupTrainingData(groups=groups, shards=[[plan]])
        for plan in plan_responses(responses, config)
    ]
    sums = ask_learners(learner_group, lambda learner: _loss_sum(learner, shards))
    return math.fsum(sums) / sum(response.loss_tokens for response in responses)


@torch.no_grad()
def _loss_sum(learner: DAPOTorchLearner, shards: Sequence[GroupTrainingData]) -> float:
    """A Learner's part of the sum of `-log π`; all Learners compute theirs at the same time."""
    data = shards[rank()]
    ((plan,),) = data.shards
    total = 0.0
    for batch in learner.plan_batches(plan, data):
        tensors = batch.tensors()
        logprobs = learner.forward_micro_batch(tensors)["logprobs"]
        total -= float(logprobs[tensors["mask"]].double().sum())
    return total


def _number(stats: Any) -> float:
    return float(stats.peek() if hasattr(stats, "peek") else stats)
