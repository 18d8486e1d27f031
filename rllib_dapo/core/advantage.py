"""Advantages within a group (DAPO, Eq. 4 and 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

AdvantageEstimator = Literal["group", "leave_one_out", "gae"]
ADVANTAGE_ESTIMATORS: tuple[str, ...] = get_args(AdvantageEstimator)
STD_EPSILON = 1e-6
SIGNAL_TOLERANCE = 1e-6


def has_signal(rewards: Float[Tensor, "G"]) -> bool:
    """`max(R) - min(R) > 1e-6`: whether the rewards of one group differ at all.

    The extremes are compared in float64. A computed standard deviation would not do: rounding
    leaves a residue that passes `std > 0`, and dividing by it blows the advantages up.

    Args:
        rewards: `[G]` rewards of one prompt's responses; NaN marks a missing reward, which is
            ignored.

    Returns:
        False also where fewer than two rewards are known.

    Source: the counterpart of DAPO, Eq. 11, for rewards without a verdict (arXiv 2503.14476).
    """
    known = rewards.double()[~torch.isnan(rewards)]
    return known.numel() > 1 and bool(known.max() - known.min() > SIGNAL_TOLERANCE)


def group_advantages(
    rewards: Float[Tensor, "G"], *, normalize_by_std: bool = True, leave_one_out: bool = False
) -> Float64[Tensor, "G"]:
    """`A_i = (R_i - mean(R)) / (std(R) + 1e-6)`, the advantage of each response in its group.

    The standard deviation is the sample's (ddof = 1). Rewards without a signal (see `has_signal`)
    have advantages of exactly zero.

    Args:
        rewards: `[G]` shaped rewards of one prompt's responses; NaN marks a missing reward, which
            counts neither in the mean nor in the standard deviation.
        normalize_by_std: Whether to divide by the standard deviation; False is the form of Dr. GRPO
            (arXiv 2503.20783).
        leave_one_out: Whether the baseline of a response is the mean of the *other* rewards, which
            its own reward does not bias (RLOO, arXiv 2402.14740).

    Returns:
        `[G]` advantages, exactly 0 where the reward is missing.

    Source: DAPO, Eq. 4 and 9 (arXiv 2503.14476).
    """
    rewards = rewards.double()
    known = ~torch.isnan(rewards)
    if not has_signal(rewards):
        return torch.zeros_like(rewards)

    centred = rewards - rewards[known].mean()
    if leave_one_out:
        # R_i - mean of the others = n / (n - 1) * (R_i - mean of all n)
        count = int(known.sum())
        centred = centred * (count / (count - 1))
    if normalize_by_std:
        centred = centred / (rewards[known].std(correction=1) + STD_EPSILON)
    return torch.where(known, centred, torch.zeros_like(centred))
