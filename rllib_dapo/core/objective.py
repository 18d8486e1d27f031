"""The whole loss of a micro-batch: policy, divergence from a reference, entropy bonus, values."""

from __future__ import annotations

from torch import Tensor

from rllib_dapo.core.critic import value_loss
from rllib_dapo.core.kl import KLEstimator, kl_estimates
from rllib_dapo.core.loss import dapo_policy_loss
from rllib_dapo.core.normalizer import weighted_sum
from rllib_dapo.core.ratio import RatioLevel


def dapo_objective(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
    weights: Tensor,
    epsilon_low: float,
    epsilon_high: float,
    dual_clip: float | None = None,
    ratio_level: RatioLevel = "token",
    token_weights: Tensor | None = None,
    entropy: Tensor | None = None,
    entropy_coefficient: float = 0.0,
    ref_logprobs: Tensor | None = None,
    kl_coefficient: float = 0.0,
    kl_estimator: KLEstimator = "k3",
    values: Tensor | None = None,
    old_values: Tensor | None = None,
    returns: Tensor | None = None,
    value_loss_coefficient: float = 0.0,
    value_clip: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`policy loss + kl_coefficient KL - entropy_coefficient H + value_loss_coefficient value loss`.

    Every term is a sum over the mask with the same weights, so all of them are the same however a
    mini-batch is cut. A term with the coefficient 0 costs nothing, except that the divergence is
    reported wherever a reference is given. Tensors are `[B, T]` unless said otherwise.

    Args:
        logprobs: Log-probabilities under the policy being trained, with gradient.
        old_logprobs: Under the old policy.
        advantages: `[B]` or `[B, T]`.
        mask: True where a token has loss.
        weights: `[B]`, the weight of each token of a response, see `core.normalizer`.
        epsilon_low: Lower clip range.
        epsilon_high: Upper clip range.
        dual_clip: Bound of the dual clip, or None.
        ratio_level: `"token"` or `"sequence"`, see `core.ratio`.
        token_weights: Factors on the token's policy loss, such as `importance_weights`.
        entropy: Of the policy's distribution before each token, in nats, with gradient.
        entropy_coefficient: Of the bonus.
        ref_logprobs: Under the frozen reference.
        kl_coefficient: Of the divergence from it (GRPO's beta).
        kl_estimator: See `core.kl`.
        values: Of the value model, with gradient.
        old_values: As they were when the advantages were taken.
        returns: What the values should be.
        value_loss_coefficient: Of their loss.
        value_clip: See `core.critic.value_loss`.

    Returns:
        The scalar loss, and detached statistics: those of `dapo_policy_loss`, and that loss itself
        as `policy_loss_sum`; `kl_sum`, a sum over tokens, where there is a reference; those of
        `value_loss` where it takes part.

    Raises:
        ValueError: If a term has a coefficient and lacks its input.
    """
    loss, statistics = dapo_policy_loss(
        logprobs, old_logprobs, advantages, mask, weights, epsilon_low=epsilon_low, epsilon_high=epsilon_high,
        dual_clip=dual_clip, ratio_level=ratio_level, token_weights=token_weights,
    )  # fmt: skip
    statistics["policy_loss_sum"] = loss.detach()
    if kl_coefficient or ref_logprobs is not None:
        reference = _required(ref_logprobs, "kl_coefficient", "ref_logprobs")
        # Without a coefficient the divergence is only reported: nothing is kept for a backward
        # pass.
        policy = logprobs if kl_coefficient else logprobs.detach()
        divergence = kl_estimates(policy, reference, mask, estimator=kl_estimator)
        statistics["kl_sum"] = divergence.detach().sum()
        if kl_coefficient:
            loss = loss + kl_coefficient * weighted_sum(divergence, mask, weights)
    if entropy_coefficient:
        bonus = weighted_sum(_required(entropy, "entropy_coefficient", "entropy"), mask, weights)
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
    """The tensor; says what is missing where it is."""
    if tensor is None:
        raise ValueError(
            f"{coefficient} is not 0, but there is no {name}: give {name} or set {coefficient} to 0"
        )
    return tensor
