"""Advantages of responses that are compared with others: in their group, or over the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor

from rllib_dapo.core import ADVANTAGE_ESTIMATORS, BATCH_ESTIMATORS, group_advantages
from rllib_dapo.learner.own_functions import call_own, resolve_function

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

SETTING = "training.advantage_estimator"


def compare_responses(groups: Sequence[Tensor], config: DAPOConfig) -> list[Tensor]:
    """The advantage of each response of a batch, by `training.advantage_estimator`.

    Args:
        groups: For each group the rewards of its responses, float64; NaN marks one that counts
            nowhere. All groups of the batch, whichever Learners train on them.
        config: The algorithm's configuration, without a critic.

    Returns:
        Tensors of the same sizes, float64, 0 where the reward is NaN.

    Raises:
        ValueError: If a user's estimator gives something else; one line.
    """
    estimator = config.advantage_estimator
    if estimator in ("group", "leave_one_out"):
        return [
            group_advantages(
                rewards,
                normalize_by_std=config.normalize_advantages_by_std,
                leave_one_out=estimator == "leave_one_out",
            )
            for rewards in groups
        ]

    if not groups:
        return []

    rewards = torch.nn.utils.rnn.pad_sequence(
        list(groups), batch_first=True, padding_value=torch.nan
    )
    advantages = (
        BATCH_ESTIMATORS[estimator](rewards)
        if is_shipped_estimator(estimator)
        else _own_advantages(estimator, resolve_estimator(estimator), rewards)
    )
    return [row[: len(group)] for row, group in zip(advantages, groups, strict=True)]


def is_shipped_estimator(estimator: Any) -> TypeGuard[str]:
    """Whether `training.advantage_estimator` is one of the names."""
    return isinstance(estimator, str) and estimator in ADVANTAGE_ESTIMATORS


def resolve_estimator(estimator: Any) -> Callable[..., Any]:
    """A user's own estimator.

    Raises:
        ValueError: If there is no such function; one line.
    """
    return resolve_function(SETTING, estimator)


def try_own_estimator(config: DAPOConfig) -> None:
    """Calls a user's own estimator once with made-up rewards of three groups.

    Args:
        config: The algorithm's configuration.

    Raises:
        ValueError: If what it gives is no advantages; one line.
    """
    rewards = torch.tensor(
        [[1.0, -1.0, -1.0, 0.5], [1.0, 1.0, torch.nan, 1.0], [-1.0, 1.0, torch.nan, torch.nan]],
        dtype=torch.float64,
    )
    compare_responses(list(rewards), config)


def _own_advantages(estimator: Any, function: Callable[..., Any], rewards: Tensor) -> Tensor:
    where = f"{SETTING}={estimator!r}"
    given = call_own(where, function, rewards=rewards.clone())
    if not isinstance(given, Tensor):
        raise ValueError(f"{where} gave {type(given).__name__}: it must give a tensor [N, G]")
    if given.shape != rewards.shape or given.is_complex():
        raise ValueError(
            f"{where} gave {given.dtype} {tuple(given.shape)}: it must give real advantages of the "
            f"rewards' shape, {tuple(rewards.shape)}"
        )

    known = ~rewards.isnan()
    advantages = given.detach().double().cpu()
    if not advantages[known].isfinite().all():
        raise ValueError(
            f"{where} gave an advantage that is not finite: rewards that are missing are NaN, so "
            "take nanmean and the like"
        )
    return torch.where(known, advantages, 0.0)
