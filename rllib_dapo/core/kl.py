"""Estimators of the divergence from a frozen reference policy (GRPO's KL term)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from rllib_dapo.core.ratio import log_ratios

KLEstimator = Literal["k1", "k2", "k3"]
KL_ESTIMATORS: tuple[str, ...] = get_args(KLEstimator)


def kl_estimates(
    logprobs: Tensor, ref_logprobs: Tensor, mask: Tensor, *, estimator: KLEstimator
) -> Tensor:
    """Estimates of `KL(pi || pi_ref)` from single sampled tokens (Schulman, "Approximating KL Divergence", 2020).

    | name | formula, with d = log pi - log pi_ref | |
    | --- | --- | --- |
    | `k1` | `d` | unbiased, large variance, negative at times |
    | `k2` | `d^2 / 2` | biased, small variance; its gradient is unbiased |
    | `k3` | `exp(-d) - 1 + d` | unbiased, never negative; GRPO's |

    As a term of a loss `k1` does nothing: its gradient is that of the log-probability, whose
    expectation under the policy is zero. It is there for reporting.

    Args:
        logprobs: `[B, T]` log-probabilities under the policy being trained, of tokens that it
            sampled.
        ref_logprobs: `[B, T]` log-probabilities under the reference.
        mask: `[B, T]` bool, True where a token counts.
        estimator: The formula's name.

    Returns:
        `[B, T]` in nats, 0 outside the mask; log-ratios are clamped to ±20 first.
    """
    difference = log_ratios(logprobs, ref_logprobs, mask)
    match estimator:
        case "k1":
            return difference
        case "k2":
            return difference.square() / 2
        case "k3":
            return torch.expm1(-difference) + difference
