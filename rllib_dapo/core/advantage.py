"""Group-relative advantages (paper, Eq. 9)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

AdvantageEstimator = Literal["group", "leave_one_out", "gae"]
ADVANTAGE_ESTIMATORS: tuple[str, ...] = get_args(AdvantageEstimator)
STD_EPSILON = 1e-6
SIGNAL_TOLERANCE = 1e-6


def has_signal(rewards: Tensor) -> bool:
    """Whether the rewards of one group differ at all: `max - min > 1e-6` in float64.

    Comparing the extremes, not a computed standard deviation: rounding leaves a residue in the
    latter that passes `std > 0` and then blows up the division by it.

    Args:
        rewards: `[G]`; NaN marks a missing reward and is left out.
    """
    known = rewards.double()[~torch.isnan(rewards)]
    return known.numel() > 1 and bool(known.max() - known.min() > SIGNAL_TOLERANCE)


def group_advantages(
    rewards: Tensor, *, normalize_by_std: bool = True, leave_one_out: bool = False
) -> Tensor:
    r"""Advantage of each response within its group, Eq. 9: `(R_i - mean(R)) / (std(R) + 1e-6)`.

    The standard deviation is the sample's (ddof = 1). A group of equal rewards has advantages of
    exactly zero.

    Args:
        rewards: `[G]` (shaped) rewards of one prompt's responses; NaN marks a missing one.
        normalize_by_std: False leaves out the division (Dr. GRPO, arXiv 2503.20783).
        leave_one_out: The baseline is the mean of the *other* rewards (RLOO, arXiv 2402.14740),
            which a response's own reward does not bias; the difference from it is n / (n - 1) times
            that from the mean of all n.

    Returns:
        `[G]` float64; exactly 0 for missing rewards, which count neither in the mean nor in the
        std.
    """
    rewards = rewards.double()
    known = ~torch.isnan(rewards)
    if not has_signal(rewards):
        return torch.zeros_like(rewards)
    centred = rewards - rewards[known].mean()
    if leave_one_out:
        count = int(known.sum())
        centred = centred * (count / (count - 1))
    if normalize_by_std:
        centred = centred / (rewards[known].std(correction=1) + STD_EPSILON)
    return torch.where(known, centred, torch.zeros_like(centred))
