"""Advantages that need tokens, so that the driver cannot take them: with a critic, or less a KL.

Figures that compare tokens of different micro-batches are gathered from all Learners, so that they
do not depend on how a mini-batch is cut.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rllib_dapo.core import generalized_advantages, kl_estimates, terminal_rewards, whiten
from rllib_dapo.learner.collectives import gather
from rllib_dapo.learner.group_comparison import compare_responses
from rllib_dapo.learner.planned_batch import PlannedBatch

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig


def is_kl_in_reward(config: DAPOConfig) -> bool:
    """Whether the KL divergence to the reference is taken off the rewards."""
    return config.needs_reference and config.kl_placement == "reward"


def group_advantages_less_kl(batches: Sequence[PlannedBatch], config: DAPOConfig) -> None:
    """Group advantages `[B]` from rewards `[B]` that the KL to the reference has been taken off.

    Args:
        batches: All micro-batches of one update on this Learner; both tensors are replaced there.
        config: The algorithm's configuration.
    """
    mine = []
    for batch in batches:
        batch["rewards"] = batch["rewards"] - _kl_penalty(batch, config).sum(-1)
        mine += list(
            zip(
                batch["groups"].tolist(),
                batch["indices"].tolist(),
                batch["rewards"].tolist(),
                strict=True,
            )
        )

    # A group may be spread over micro-batches and Learners.
    groups: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for group, index, reward in (row for rows in gather(mine) for row in rows):
        groups[group][index] = reward

    # In the same order on every Learner, so that all of them round alike.
    places = [[(group, i) for i in sorted(groups[group])] for group in sorted(groups)]
    compared = compare_responses(
        [torch.tensor([groups[g][i] for g, i in row], dtype=torch.float64) for row in places],
        config,
    )
    advantages = {
        place: float(value)
        for row, values in zip(places, compared, strict=True)
        for place, value in zip(row, values, strict=True)
    }

    for batch in batches:
        keys = zip(batch["groups"].tolist(), batch["indices"].tolist(), strict=True)
        batch["advantages"] = batch["advantages"].new_tensor([advantages[key] for key in keys])


def critic_advantages(batches: Sequence[PlannedBatch], config: DAPOConfig) -> None:
    """Generalized advantages `[B, T]` of the old value function, and the returns it is to learn.

    Args:
        batches: All micro-batches of one update on this Learner, with `old_values`; the advantages
            are replaced and `returns` are added there.
        config: The algorithm's configuration.
    """
    for batch in batches:
        rewards = terminal_rewards(batch["rewards"], batch["mask"]).to(batch["old_values"].dtype)
        if is_kl_in_reward(config):
            rewards = rewards - _kl_penalty(batch, config)
        batch["advantages"], batch["returns"] = generalized_advantages(
            rewards,
            batch["old_values"],
            batch["mask"],
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
        )

    if config.normalize_advantages_by_std:
        mean, std = _mean_and_std([batch["advantages"][batch["mask"]] for batch in batches])
        for batch in batches:
            batch["advantages"] = whiten(batch["advantages"], batch["mask"], mean=mean, std=std)


def _kl_penalty(batch: PlannedBatch, config: DAPOConfig) -> Tensor:
    """`[B, T]` KL estimates under the old policy, times their coefficient."""
    kl = kl_estimates(
        batch["policy_logprobs"],
        batch["ref_logprobs"],
        batch["mask"],
        estimator=config.kl_estimator,
    )
    return config.kl_coefficient * kl


def _mean_and_std(parts: Sequence[Tensor]) -> tuple[float, float]:
    """Mean and population standard deviation over all tokens of all Learners."""
    values = torch.cat([part.double() for part in parts])
    sums = (len(values), float(values.sum()), float(values.square().sum()))
    count, total, squares = (sum(column) for column in zip(*gather(sums), strict=True))

    mean = total / max(count, 1)
    return mean, max(squares / max(count, 1) - mean**2, 0.0) ** 0.5
