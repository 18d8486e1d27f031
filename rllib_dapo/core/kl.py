"""Estimators of the divergence from a frozen reference policy (the KL term of GRPO)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from rllib_dapo.core.ratio import log_ratios, token_ratios

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

KLEstimator = Literal["k1", "k2", "k3"]
KL_ESTIMATORS: tuple[str, ...] = get_args(KLEstimator)
# Of one token, in nats. Without it a token that the policy has all but given up would own the step:
# at d = -30, k3 is 5e8.
MAX_K3 = 10.0
# A range of d that no policies leave: k2 grows with the square of d alone, and its gradient is what
# brings a distant token back.
MAX_K2_LOG_RATIO = 1e4


def kl_estimates(
    logprobs: Float[Tensor, "B T"],
    ref_logprobs: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    estimator: KLEstimator,
) -> Float[Tensor, "B T"]:
    """`k1 = d`, `k2 = d² / 2`, `k3 = exp(-d) - 1 + d`, with `d = log π - log π_ref`.

    Each estimates `KL(π || π_ref)` from one sampled token:

    | name | properties |
    | --- | --- |
    | `k1` | unbiased, large variance, negative at times |
    | `k2` | biased, small variance; its gradient is unbiased |
    | `k3` | unbiased, never negative; the one of GRPO |

    As a term of a loss `k1` does nothing: its gradient is that of the log-probability, whose
    expectation under the policy is zero. It is there for reporting.

    Args:
        logprobs: `[B, T]` log-probabilities under the policy being trained, of tokens that it
            sampled.
        ref_logprobs: `[B, T]` log-probabilities under the reference.
        mask: `[B, T]` True where a token counts.
        estimator: Name of the formula.

    Returns:
        `[B, T]` estimates in nats, 0 outside the mask. In `k1` and `k3` `d` is clamped to ±20, and
        `k3` itself to 10: a token beyond that has no gradient. `k2` is as it is.

    Source: Schulman, "Approximating KL Divergence" (2020); k3 is Eq. 4 of arXiv 2402.03300.
    """
    match estimator:
        case "k1":
            return log_ratios(logprobs, ref_logprobs, mask)
        case "k2":
            return log_ratios(logprobs, ref_logprobs, mask, limit=MAX_K2_LOG_RATIO).square() / 2
        case "k3":
            difference = log_ratios(logprobs, ref_logprobs, mask)
            return (torch.expm1(-difference) + difference).clamp(max=MAX_K3)


def kl_with_ratio(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    ref_logprobs: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    estimator: KLEstimator,
) -> Float[Tensor, "B T"]:
    """`r k1 = r d` and `r k3 = π_ref / π_old + r (d - 1)`, with the gradient of `r = π / π_old`.

    The tokens were drawn from the old policy, and by the ratio both the mean of an estimate and
    that of its gradient are those of the divergence, whatever `π` is. Without it the gradient of
    `k3` is `1 - π_ref / π`, which has no bound where `π` is far under the reference; here it is
    `r d`, so nothing need be cut off.

    Args:
        logprobs: `[B, T]` log-probabilities under the policy being trained.
        old_logprobs: `[B, T]` log-probabilities under the old policy, which drew the tokens.
        ref_logprobs: `[B, T]` log-probabilities under the reference.
        mask: `[B, T]` True where a token counts.
        estimator: `k1` or `k3`; `k2` is biased with and without the ratio.

    Returns:
        `[B, T]` estimates in nats, 0 outside the mask. Log-ratios to and of the old policy are
        clamped to ±20.

    Raises:
        ValueError: For `k2`.

    Source: DeepSeek-V3.2, Eq. 7 (arXiv 2512.02556).
    """
    ratio = token_ratios(logprobs, old_logprobs, mask)
    difference = log_ratios(logprobs, ref_logprobs, mask, limit=MAX_K2_LOG_RATIO)
    match estimator:
        case "k1":
            return ratio * difference
        case "k3":
            # r (exp(-d) - 1 + d), but exp(-d) alone might be beyond any number.
            return token_ratios(ref_logprobs, old_logprobs, mask) + ratio * (difference - 1.0)
        case _:
            raise ValueError(f"{estimator} is biased with the ratio too: use k1 or k3")
