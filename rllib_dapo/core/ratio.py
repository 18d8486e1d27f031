"""Ratios between two policies' probabilities: of a token, of a response, and between trainer and sampler."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

RatioLevel = Literal["token", "sequence"]
RATIO_LEVELS: tuple[str, ...] = get_args(RatioLevel)
MAX_LOG_RATIO = 20.0


def log_ratios(logprobs: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """`log pi - log pi_other`, clamped to ±20 and finite for any input, with a gradient of 0 or 1.

    Twenty is e^20 = 5e8, far beyond any bound of a clip, and small enough that products of ratios
    stay finite. Two probabilities of zero (`-inf - -inf`) count as equal.

    Args:
        logprobs: `[B, T]` log-probabilities under the policy.
        other: `[B, T]` log-probabilities under the other policy.
        mask: `[B, T]` bool, True where a token counts.

    Returns:
        `[B, T]` in nats, 0 outside the mask.
    """
    difference = torch.where(mask, logprobs - other, 0.0)
    finite = difference.nan_to_num(nan=0.0, posinf=MAX_LOG_RATIO, neginf=-MAX_LOG_RATIO)
    return finite.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def token_ratios(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> Tensor:
    """Importance ratios `r_it = pi_theta / pi_old`, 1 outside the mask, never inf or NaN.

    Args:
        logprobs: `[B, T]` log-probabilities under the policy being trained.
        old_logprobs: `[B, T]` log-probabilities under the policy that is the ratio's reference.
        mask: `[B, T]` bool, True where a token has loss.

    Returns:
        `[B, T]`; log-ratios are clamped to ±20 before the exponential.
    """
    return log_ratios(logprobs, old_logprobs, mask).exp()


def sequence_ratios(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> Tensor:
    """One ratio for all tokens of a response, the geometric mean of theirs (GSPO, arXiv 2507.18071, Eq. 7).

    With the normalizer `sequence_mean` a sum over tokens is GSPO's mean over responses.

    Args:
        logprobs: `[B, T]` log-probabilities under the policy being trained.
        old_logprobs: `[B, T]` log-probabilities under the policy that is the ratio's reference.
        mask: `[B, T]` bool, True where a token has loss.

    Returns:
        `[B, T]`; 1 outside the mask.
    """
    return torch.where(mask, _mean_log_ratios(logprobs, old_logprobs, mask).exp()[:, None], 1.0)


@torch.no_grad()
def importance_weights(
    old_logprobs: Tensor, sampler_logprobs: Tensor, mask: Tensor, *, cap: float
) -> Tensor:
    """Truncated importance sampling: `min(pi_old / pi_sampler, cap)`.

    An engine computes probabilities a little differently from the trainer, so its samples come from
    a policy of its own. These factors on the token losses correct for that; the cap bounds their
    variance.

    Args:
        old_logprobs: `[B, T]` the trainer's log-probabilities under the weights that sampled.
        sampler_logprobs: `[B, T]` the engine's.
        mask: `[B, T]` bool, True where a token has loss.
        cap: Upper bound of a factor, positive.

    Returns:
        `[B, T]` without gradient; 1 outside the mask.
    """
    return torch.where(
        mask, log_ratios(old_logprobs, sampler_logprobs, mask).exp().clamp(max=cap), 1.0
    )


@torch.no_grad()
def sequences_within(
    old_logprobs: Tensor, sampler_logprobs: Tensor, mask: Tensor, *, low: float, high: float
) -> Tensor:
    """Which responses trainer and sampler agree on: `low <= geometric mean of pi_old / pi_sampler <= high`.

    Args:
        old_logprobs: `[B, T]` the trainer's log-probabilities under the weights that sampled.
        sampler_logprobs: `[B, T]` the engine's.
        mask: `[B, T]` bool, True where a token has loss.
        low: Lower bound on the mean.
        high: Upper bound on the mean.

    Returns:
        `[B]` bool; the mean of a response without loss tokens is 1.
    """
    mean = _mean_log_ratios(old_logprobs, sampler_logprobs, mask).exp()
    return (mean >= low) & (mean <= high)


def _mean_log_ratios(logprobs: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """`[B]` mean of the log-ratios over the mask, 0 where it is empty."""
    return log_ratios(logprobs, other, mask).sum(-1) / mask.sum(-1).clamp(min=1)
