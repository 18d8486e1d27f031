"""Advantages within a group (DAPO, Eq. 4 and 9), or of all groups of a batch together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Float64

AdvantageEstimator = Literal[
    "group", "leave_one_out", "batch_std", "reinforce_plus_plus_baseline", "gae"
]
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


def batch_std_advantages(rewards: Float[Tensor, "N G"]) -> Float64[Tensor, "N G"]:
    """`A_ni = (R_ni - mean_i(R_ni)) / (std_ni(R_ni) + 1e-6)`: the deviation is that of the batch.

    A group in which almost all responses are equal has a small deviation, and to divide by it
    enlarges the few others; the batch's is the same for all.

    Args:
        rewards: `[N, G]` shaped rewards of all groups; NaN marks a missing reward, or the end of a
            smaller group.

    Returns:
        `[N, G]` advantages, exactly 0 where the reward is missing and in groups without a signal.

    Source: Lite PPO (arXiv 2508.08221).
    """
    return _less_group_means(rewards) / (_sample_std(rewards.double()) + STD_EPSILON)


def reinforce_baseline_advantages(rewards: Float[Tensor, "N G"]) -> Float64[Tensor, "N G"]:
    """`A_ni = C_ni / (std_ni(C) + 1e-6)`, with `C_ni = R_ni - mean_i(R_ni)`.

    The paper also subtracts the batch's mean of `C`, which is 0.

    Args:
        rewards: `[N, G]` shaped rewards of all groups; NaN marks a missing reward, or the end of a
            smaller group.

    Returns:
        `[N, G]` advantages, exactly 0 where the reward is missing and in groups without a signal.

    Source: REINFORCE++ with baseline (arXiv 2501.03262).
    """
    centred = _less_group_means(rewards)
    return centred / (_sample_std(centred.masked_fill(rewards.isnan(), torch.nan)) + STD_EPSILON)


# Estimators that see all groups of a batch at once.
BATCH_ESTIMATORS: Mapping[str, Callable[..., Any]] = {
    "batch_std": batch_std_advantages,
    "reinforce_plus_plus_baseline": reinforce_baseline_advantages,
}


def _less_group_means(rewards: Float[Tensor, "N G"]) -> Float64[Tensor, "N G"]:
    """`R_ni - mean_i(R_ni)`; 0 where a reward is missing, and in groups without a signal."""
    rewards = rewards.double()
    centred = rewards - rewards.nanmean(dim=-1, keepdim=True)
    informative = torch.tensor([has_signal(group) for group in rewards], dtype=torch.bool)
    return torch.where(informative.to(rewards.device)[:, None], centred, 0.0).nan_to_num(nan=0.0)


def _sample_std(values: Float64[Tensor, "N G"]) -> Float64[Tensor, ""]:
    """The sample's standard deviation (ddof = 1) of all that is known; 0 of fewer than two."""
    known = values[~values.isnan()]
    return known.std(correction=1) if known.numel() > 1 else values.new_zeros(())
