"""The policy loss with decoupled clip bounds (paper, Eq. 10 and 12)."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_LOG_RATIO = 20.0


def token_ratios(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> Tensor:
    """Importance ratios `r_it = pi_theta / pi_old`, 1 outside the mask, never inf or NaN.

    Args:
        logprobs: `[B, T]` log-probabilities under the policy being trained.
        old_logprobs: `[B, T]` log-probabilities under the policy that is the ratio's reference.
        mask: `[B, T]` bool, True where a token has loss.

    Returns:
        `[B, T]`; log-ratios are clamped to ±20 before the exponential.
    """
    log_ratio = torch.where(mask, logprobs - old_logprobs, 0.0)
    return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def dapo_policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    weights: Tensor,
    *,
    epsilon_low: float,
    epsilon_high: float,
    dual_clip: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    r"""Clip-Higher surrogate, to be minimised, and the statistics of its ratios.

    Eq. 10 per token: `-min(r A, clip(r, 1 - epsilon_low, 1 + epsilon_high) A)`; with `dual_clip = c > 1` the loss of a
    token with `A < 0` is at most `-c A` (arXiv 1912.09729). The loss is the weighted sum over tokens, with the weights
    of `core.normalizer`, hence the same however the mini-batch is cut.

    Args:
        logprobs: `[B, T]` of the policy being trained, with gradient.
        old_logprobs: `[B, T]` of the old policy.
        advantages: `[B]`, one for all tokens of a response.
        mask: `[B, T]` bool, True where a token has loss.
        weights: `[B]`, the weight of each token of a response.
        epsilon_low: Lower clip range, in (0, 1).
        epsilon_high: Upper clip range, at least `epsilon_low`.
        dual_clip: Bound `c` of the dual clip, or None.

    Returns:
        The scalar loss, and detached sums over tokens: `tokens`, `ratio_sum`, `clip_low_count` (advantage negative,
        ratio under the lower bound: no gradient), `clip_high_count` (advantage positive, ratio over the upper bound),
        and the maximum `ratio_max`.
    """
    ratio = token_ratios(logprobs, old_logprobs, mask)
    advantage = advantages.to(ratio.dtype)[:, None]
    clipped = ratio.clamp(1.0 - epsilon_low, 1.0 + epsilon_high)
    token_loss = -torch.minimum(ratio * advantage, clipped * advantage)
    if dual_clip is not None:
        token_loss = torch.where(advantage < 0, torch.minimum(token_loss, -dual_clip * advantage), token_loss)
    token_loss = torch.where(mask, token_loss, 0.0)
    loss = (token_loss * weights.to(ratio.dtype)[:, None]).sum()

    with torch.no_grad():
        statistics = {
            "tokens": mask.sum(),
            "ratio_sum": ratio[mask].sum(),
            "ratio_max": torch.where(mask, ratio, 0.0).amax() if mask.numel() else ratio.new_zeros(()),
            "clip_low_count": (mask & (advantage < 0) & (ratio < 1.0 - epsilon_low)).sum(),
            "clip_high_count": (mask & (advantage > 0) & (ratio > 1.0 + epsilon_high)).sum(),
        }
    return loss, statistics
