"""Ratios between the probabilities of two policies: per token, per response, trainer to sampler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

RatioLevel = Literal["token", "sequence"]
RATIO_LEVELS: tuple[str, ...] = get_args(RatioLevel)
# e^20 = 5e8: far beyond any clip bound, and small enough that products of ratios stay finite.
MAX_LOG_RATIO = 20.0


def log_ratios(
    logprobs: Float[Tensor, "B T"],
    other: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    limit: float = MAX_LOG_RATIO,
) -> Float[Tensor, "B T"]:
    """`log π(o_t) - log π_other(o_t)`, clamped to ±`limit`.

    The result is finite for any input, and its gradient is 0 or 1. Two probabilities of zero
    (`-inf - -inf`) count as equal.

    Args:
        logprobs: `[B, T]` log-probabilities under the policy.
        other: `[B, T]` log-probabilities under the other policy.
        mask: `[B, T]` True where a token counts.
        limit: Largest difference, in nats.

    Returns:
        `[B, T]` in nats, 0 outside the mask.

    Source: logarithm of DAPO, Eq. 6 (arXiv 2503.14476).
    """
    difference = torch.where(mask, logprobs - other, 0.0)
    finite = difference.nan_to_num(nan=0.0, posinf=limit, neginf=-limit)
    return finite.clamp(-limit, limit)


def token_ratios(
    logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """`r_it = π_θ(o_it | q, o_i<t) / π_old(o_it | q, o_i<t)`, the importance ratio of each token.

    Args:
        logprobs: `[B, T]` log-probabilities under the policy being trained.
        old_logprobs: `[B, T]` log-probabilities under the old policy.
        mask: `[B, T]` True where a token has loss.

    Returns:
        `[B, T]` ratios, 1 outside the mask, never inf or NaN: log-ratios are clamped to ±20.

    Source: DAPO, Eq. 6 (arXiv 2503.14476).
    """
    return log_ratios(logprobs, old_logprobs, mask).exp()


def sequence_ratios(
    logprobs: Float[Tensor, "B T"], old_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """`s_i = (Π_t r_it)^(1 / T_i)`, one ratio for all tokens of a response: their geometric mean.

    With the normalizer `sequence_mean`, a sum over tokens is GSPO's mean over responses.

    Args:
        logprobs: `[B, T]` log-probabilities under the policy being trained.
        old_logprobs: `[B, T]` log-probabilities under the old policy.
        mask: `[B, T]` True where a token has loss.

    Returns:
        `[B, T]` ratios, 1 outside the mask.

    Source: GSPO, Eq. 7 (arXiv 2507.18071).
    """
    return torch.where(mask, _mean_log_ratios(logprobs, old_logprobs, mask).exp()[:, None], 1.0)


@torch.no_grad()
def importance_weights(
    old_logprobs: Float[Tensor, "B T"],
    sampler_logprobs: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    cap: float,
) -> Float[Tensor, "B T"]:
    """`w_it = min(π_old(o_it) / π_sampler(o_it), cap)`: truncated importance sampling.

    An engine computes probabilities a little differently from the trainer, so its samples come from
    a policy of its own. These factors on the token losses correct for that; the cap bounds their
    variance.

    Args:
        old_logprobs: `[B, T]` the trainer's log-probabilities under the weights that sampled.
        sampler_logprobs: `[B, T]` the engine's log-probabilities of the same tokens.
        mask: `[B, T]` True where a token has loss.
        cap: Upper bound of a factor, positive.

    Returns:
        `[B, T]` factors without gradient, 1 outside the mask.

    Source: Ionides, "Truncated Importance Sampling" (2008); not part of DAPO.
    """
    return torch.where(
        mask, log_ratios(old_logprobs, sampler_logprobs, mask).exp().clamp(max=cap), 1.0
    )


@torch.no_grad()
def sequences_within(
    old_logprobs: Float[Tensor, "B T"],
    sampler_logprobs: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    low: float,
    high: float,
) -> Bool[Tensor, "B"]:
    """`low <= (Π_t π_old(o_it) / π_sampler(o_it))^(1 / T_i) <= high`: the responses to keep.

    Args:
        old_logprobs: `[B, T]` the trainer's log-probabilities under the weights that sampled.
        sampler_logprobs: `[B, T]` the engine's log-probabilities of the same tokens.
        mask: `[B, T]` True where a token has loss.
        low: Lower bound on the geometric mean.
        high: Upper bound on the geometric mean.

    Returns:
        `[B]` whether trainer and sampler agree on a response. The mean of a response without loss
        tokens is 1.

    Source: common practice against the gap between engine and trainer; not part of DAPO.
    """
    mean = _mean_log_ratios(old_logprobs, sampler_logprobs, mask).exp()
    return (mean >= low) & (mean <= high)


@torch.no_grad()
def tokens_within(
    old_logprobs: Float[Tensor, "B T"],
    sampler_logprobs: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    low: float,
    high: float,
) -> Bool[Tensor, "B T"]:
    """`low <= π_old(o_it) / π_sampler(o_it) <= high`: the tokens to keep, by bounds on both sides.

    With `importance_weights` capped at `high` a token's factor is the ratio itself inside the
    bounds and 0 outside: IcePop.

    Args:
        old_logprobs: `[B, T]` the trainer's log-probabilities under the weights that sampled.
        sampler_logprobs: `[B, T]` the engine's log-probabilities of the same tokens.
        mask: `[B, T]` True where a token has loss.
        low: Lower bound on the ratio.
        high: Upper bound on the ratio.

    Returns:
        `[B, T]` whether trainer and sampler agree on a token; True outside the mask.

    Source: IcePop, in Ring-1T (arXiv 2510.18855), with bounds 0.5 and 5.
    """
    ratio = token_ratios(old_logprobs, sampler_logprobs, mask)
    return (ratio >= low) & (ratio <= high) | ~mask


def _mean_log_ratios(
    logprobs: Float[Tensor, "B T"], other: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B"]:
    """`1/T_i Σ_t log r_it` over the mask, 0 where it is empty."""
    return log_ratios(logprobs, other, mask).sum(-1) / mask.sum(-1).clamp(min=1)
