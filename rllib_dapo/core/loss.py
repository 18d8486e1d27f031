"""The policy loss with decoupled clip bounds (paper, Eq. 10 and 12)."""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_dapo.core.normalizer import weighted_sum
from rllib_dapo.core.ratio import RatioLevel, sequence_ratios, token_ratios


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
    ratio_level: RatioLevel = "token",
    token_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    r"""Clip-Higher surrogate, to be minimised, and the statistics of its ratios.

    Eq. 10 per token: `-min(r A, clip(r, 1 - epsilon_low, 1 + epsilon_high) A)`; with `dual_clip = c
    > 1` the loss of a token with `A < 0` is at most `-c A` (arXiv 1912.09729). The loss is the
    weighted sum over tokens, with the weights of `core.normalizer`, hence the same however the
    mini-batch is cut.

    Args:
        logprobs: `[B, T]` of the policy being trained, with gradient.
        old_logprobs: `[B, T]` of the old policy.
        advantages: `[B]`, one for all tokens of a response, or `[B, T]`.
        mask: `[B, T]` bool, True where a token has loss.
        weights: `[B]`, the weight of each token of a response.
        epsilon_low: Lower clip range, in (0, 1).
        epsilon_high: Upper clip range, at least `epsilon_low`.
        dual_clip: Bound `c` of the dual clip, or None.
        ratio_level: `"token"`, or `"sequence"` for one ratio per response (GSPO).
        token_weights: `[B, T]` factors without gradient on the token losses, such as
            `importance_weights`.

    Returns:
        The scalar loss, and detached sums over tokens: `tokens`, `ratio_sum`, `clip_low_count`
        (advantage negative, ratio under the lower bound: no gradient), `clip_high_count` (advantage
        positive, ratio over the upper bound), and the maximum `ratio_max`.
    """
    ratio = (token_ratios if ratio_level == "token" else sequence_ratios)(
        logprobs, old_logprobs, mask
    )
    advantage = advantages.to(ratio.dtype)
    if advantage.dim() == 1:
        advantage = advantage[:, None]
    clipped = ratio.clamp(1.0 - epsilon_low, 1.0 + epsilon_high)
    token_loss = -torch.minimum(ratio * advantage, clipped * advantage)
    if dual_clip is not None:
        token_loss = torch.where(
            advantage < 0, torch.minimum(token_loss, -dual_clip * advantage), token_loss
        )
    if token_weights is not None:
        token_loss = token_loss * token_weights.detach().to(ratio.dtype)
    loss = weighted_sum(token_loss, mask, weights)

    with torch.no_grad():
        statistics = {
            "tokens": mask.sum(),
            "ratio_sum": torch.where(mask, ratio, 0.0).sum(),
            "ratio_max": torch.where(mask, ratio, 0.0).amax()
            if mask.numel()
            else ratio.new_zeros(()),
            "clip_low_count": (mask & (advantage < 0) & (ratio < 1.0 - epsilon_low)).sum(),
            "clip_high_count": (mask & (advantage > 0) & (ratio > 1.0 + epsilon_high)).sum(),
        }
    return loss, statistics
