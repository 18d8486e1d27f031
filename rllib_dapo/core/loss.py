"""The policy loss: token losses of an objective, weighed and summed (DAPO, Eq. 10 and 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rllib_dapo.core.normalizer import weighted_sum
from rllib_dapo.core.ratio import RatioLevel, sequence_ratios, token_ratios
from rllib_dapo.core.token_objectives import TokenObjective, bind_objective, clipped_losses

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped


def policy_loss(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B"] | Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    weights: Float[Tensor, "B"],
    *,
    objective: TokenObjective,
    ratio_level: RatioLevel = "token",
    token_weights: Float[Tensor, "B T"] | None = None,
    selected: Bool[Tensor, "B T"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Shaped[Tensor, ""]]]:
    """`Σ_i w_i Σ_t l_it`, with the losses `l_it` of an objective, to be minimised.

    The weights `w_i` come from `response_weights`, so with an objective whose losses depend on
    their own response alone the loss is the same however the mini-batch is cut.

    Args:
        logprobs: `[B, T]` log-probabilities under the policy being trained, with gradient.
        old_logprobs: `[B, T]` log-probabilities under the old policy.
        advantages: `[B]` one advantage for all tokens of a response, or `[B, T]`.
        mask: `[B, T]` True where a token has loss.
        weights: `[B]` weight of each token of a response.
        objective: Gives the losses, see `core.token_objectives`. Outside the mask it is given
            log-probabilities of 0 and ratios of 1.
        ratio_level: `"token"`, or `"sequence"` for one ratio per response (GSPO).
        token_weights: `[B, T]` factors without gradient on the token losses, such as
            `importance_weights`.
        selected: `[B, T]` True where a token of the mask is trained; all are by default. A ratio of
            a whole response is that of its whole mask.

    Returns:
        The scalar loss, and detached statistics: the sums over tokens `tokens` and `ratio_sum`, the
        maximum `ratio_max`, and the sum of each figure that the objective gives.

    Source: DAPO, Eq. 8 and 12 (arXiv 2503.14476).
    """
    ratio = (token_ratios if ratio_level == "token" else sequence_ratios)(
        logprobs, old_logprobs, mask
    )
    trained = mask if selected is None else mask & selected

    advantage = advantages.to(ratio.dtype)
    if advantage.dim() == 1:
        advantage = advantage[:, None].expand_as(ratio)

    given = objective(
        logprobs=torch.where(mask, logprobs, 0.0),
        old_logprobs=torch.where(mask, old_logprobs, 0.0),
        ratio=ratio,
        advantages=torch.where(mask, advantage, 0.0),
        mask=mask,
    )
    token_loss, figures = given if isinstance(given, tuple) else (given, {})
    if token_weights is not None:
        token_loss = token_loss * token_weights.detach().to(ratio.dtype)
    loss = weighted_sum(token_loss, trained, weights)

    with torch.no_grad():
        known = torch.where(trained, ratio, 0.0)
        statistics = {
            "tokens": trained.sum(),
            "ratio_sum": known.sum(),
            "ratio_max": known.amax() if mask.numel() else ratio.new_zeros(()),
        }
        for name, figure in figures.items():
            statistics[name] = torch.where(trained, figure, 0).sum()
    return loss, statistics


def dapo_policy_loss(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B"] | Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    weights: Float[Tensor, "B"],
    *,
    epsilon_low: float,
    epsilon_high: float,
    dual_clip: float | None = None,
    ratio_level: RatioLevel = "token",
    token_weights: Float[Tensor, "B T"] | None = None,
    selected: Bool[Tensor, "B T"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Shaped[Tensor, ""]]]:
    """`-Σ_i w_i Σ_t min(r_it A_i, clip(r_it, 1 - ε_low, 1 + ε_high) A_i)`, to be minimised.

    With `dual_clip = c > 1` the loss of a token with `A < 0` is at most `-c A`. The weights `w_i`
    come from `response_weights`, so the loss is the same however the mini-batch is cut.

    Args:
        logprobs: `[B, T]` log-probabilities under the policy being trained, with gradient.
        old_logprobs: `[B, T]` log-probabilities under the old policy.
        advantages: `[B]` one advantage for all tokens of a response, or `[B, T]`.
        mask: `[B, T]` True where a token has loss.
        weights: `[B]` weight of each token of a response.
        epsilon_low: Lower clip range `ε_low`, in (0, 1).
        epsilon_high: Upper clip range `ε_high`, at least `epsilon_low`.
        dual_clip: Bound `c` of the dual clip, or None.
        ratio_level: `"token"`, or `"sequence"` for one ratio per response (GSPO).
        token_weights: `[B, T]` factors without gradient on the token losses, such as
            `importance_weights`.
        selected: `[B, T]` True where a token of the mask is trained; all are by default. A ratio of
            a whole response is that of its whole mask.

    Returns:
        The scalar loss, and detached statistics: the sums over tokens `tokens`, `ratio_sum`,
        `clip_low_count` (advantage negative, ratio under the lower bound: no gradient) and
        `clip_high_count` (advantage positive, ratio over the upper bound: no gradient), and the
        maximum `ratio_max`.

    Source: DAPO, Eq. 8, 10 and 12 (arXiv 2503.14476); the dual clip is from arXiv 1912.09729.
    """
    settings = {
        "epsilon_low": epsilon_low,
        "epsilon_high": epsilon_high,
        "dual_clip": dual_clip,
    }
    return policy_loss(
        logprobs,
        old_logprobs,
        advantages,
        mask,
        weights,
        objective=bind_objective(clipped_losses, settings),
        ratio_level=ratio_level,
        token_weights=token_weights,
        selected=selected,
    )
