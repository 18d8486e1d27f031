"""The whole loss of a micro-batch: policy, divergence from a reference, entropy bonus, values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from rllib_dapo.core.critic import value_loss
from rllib_dapo.core.kl import KLEstimator, kl_estimates, kl_with_ratio
from rllib_dapo.core.loss import policy_loss
from rllib_dapo.core.normalizer import weighted_sum
from rllib_dapo.core.ratio import RatioLevel
from rllib_dapo.core.token_objectives import TokenObjective, bind_objective, clipped_losses

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped


def dapo_objective(
    *,
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, "B"] | Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    weights: Float[Tensor, "B"],
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.28,
    dual_clip: float | None = None,
    objective: TokenObjective | None = None,
    ratio_level: RatioLevel = "token",
    token_weights: Float[Tensor, "B T"] | None = None,
    selected: Bool[Tensor, "B T"] | None = None,
    entropy: Float[Tensor, "B T"] | None = None,
    entropy_coefficient: float = 0.0,
    ref_logprobs: Float[Tensor, "B T"] | None = None,
    kl_coefficient: float = 0.0,
    kl_estimator: KLEstimator = "k3",
    kl_importance_ratio: bool = False,
    values: Float[Tensor, "B T"] | None = None,
    old_values: Float[Tensor, "B T"] | None = None,
    returns: Float[Tensor, "B T"] | None = None,
    value_loss_coefficient: float = 0.0,
    value_clip: float | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Shaped[Tensor, ""]]]:
    """`loss = L_policy + β KL(π || π_ref) - c_H H(π) + c_V L_value`, to be minimised.

    Every term is a sum over tokens with the same weights, so the loss is the same however a
    mini-batch is cut. A term with the coefficient 0 costs nothing, except that the divergence is
    reported wherever a reference is given.

    Args:
        logprobs: `[B, T]` log-probabilities under the policy being trained, with gradient.
        old_logprobs: `[B, T]` log-probabilities under the old policy.
        advantages: `[B]` one advantage for all tokens of a response, or `[B, T]`.
        mask: `[B, T]` True where a token has loss.
        weights: `[B]` weight of each token of a response, see `core.normalizer`.
        epsilon_low: Lower clip range, in (0, 1), of the clipped objective.
        epsilon_high: Upper clip range of the clipped objective, at least `epsilon_low`.
        dual_clip: Bound of its dual clip, or None.
        objective: Another objective in the place of the clipped one, see `core.token_objectives`.
        ratio_level: `"token"` or `"sequence"`, see `core.ratio`.
        token_weights: `[B, T]` factors on the policy loss of each token, such as
            `importance_weights`.
        selected: `[B, T]` True where a token of the mask trains the policy, by its loss, its
            divergence and its entropy; all do by default. Values learn from the whole mask, and a
            ratio of a whole response is that of its whole mask.
        entropy: `[B, T]` entropy `H` of the distribution that each token was drawn from, in nats,
            with gradient.
        entropy_coefficient: Coefficient `c_H` of the entropy bonus.
        ref_logprobs: `[B, T]` log-probabilities under the frozen reference.
        kl_coefficient: Coefficient `β` of the divergence from the reference.
        kl_estimator: Name of the estimator of the divergence, see `core.kl`.
        kl_importance_ratio: Whether each estimate is multiplied by the token's ratio, with its
            gradient; see `core.kl.kl_with_ratio`.
        values: `[B, T]` values under the model being trained, with gradient.
        old_values: `[B, T]` values that the advantages were computed from.
        returns: `[B, T]` targets of the values.
        value_loss_coefficient: Coefficient `c_V` of the value loss.
        value_clip: Clip range of the values, or None, see `core.critic.value_loss`.

    Returns:
        The scalar loss, and detached statistics: those of `policy_loss`, and that loss itself
        as `policy_loss_sum`; `kl_sum`, a sum over tokens, if there is a reference; those of
        `value_loss` if it takes part.

    Raises:
        ValueError: if a term has a coefficient but lacks its input.

    Source: DAPO, Eq. 8 (arXiv 2503.14476); the KL term is that of GRPO, Eq. 5 there; bonus and
    value loss are those of PPO, Eq. 9 (arXiv 1707.06347).
    """
    clip = {"epsilon_low": epsilon_low, "epsilon_high": epsilon_high, "dual_clip": dual_clip}
    loss, statistics = policy_loss(
        logprobs,
        old_logprobs,
        advantages,
        mask,
        weights,
        objective=objective or bind_objective(clipped_losses, clip),
        ratio_level=ratio_level,
        token_weights=token_weights,
        selected=selected,
    )
    trained = mask if selected is None else mask & selected
    statistics["policy_loss_sum"] = loss.detach()

    if kl_coefficient or ref_logprobs is not None:
        reference = _required(ref_logprobs, "kl_coefficient", "ref_logprobs")
        # Without a coefficient the divergence is only reported: nothing is kept for a backward
        # pass.
        policy = logprobs if kl_coefficient else logprobs.detach()
        divergence = (
            kl_with_ratio(policy, old_logprobs, reference, trained, estimator=kl_estimator)
            if kl_importance_ratio
            else kl_estimates(policy, reference, trained, estimator=kl_estimator)
        )
        statistics["kl_sum"] = divergence.detach().sum()
        if kl_coefficient:
            loss = loss + kl_coefficient * weighted_sum(divergence, trained, weights)

    if entropy_coefficient:
        bonus = weighted_sum(_required(entropy, "entropy_coefficient", "entropy"), trained, weights)
        loss = loss - entropy_coefficient * bonus

    if value_loss_coefficient:
        critic_loss, critic_statistics = value_loss(
            _required(values, "value_loss_coefficient", "values"),
            _required(old_values, "value_loss_coefficient", "old_values"),
            _required(returns, "value_loss_coefficient", "returns"),
            mask,
            weights,
            value_clip=value_clip,
        )
        loss = loss + value_loss_coefficient * critic_loss
        statistics |= critic_statistics

    return loss, statistics


def _required(tensor: Tensor | None, coefficient: str, name: str) -> Tensor:
    """Returns the tensor, or says which input is missing."""
    if tensor is None:
        raise ValueError(
            f"{coefficient} is not 0, but there is no {name}: give {name} or set {coefficient} to 0"
        )
    return tensor
