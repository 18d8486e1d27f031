"""What PPO needs beside the policy loss: advantages from a value model, and that model's loss."""

from __future__ import annotations

import torch
from torch import Tensor

from rllib_dapo.core.normalizer import weighted_sum

STD_EPSILON = 1e-6


def terminal_rewards(rewards: Tensor, mask: Tensor) -> Tensor:
    """Puts each response's reward on its last token with loss: the environment speaks once, at the end.

    Args:
        rewards: `[B]`, one of each response.
        mask: `[B, T]` bool, True where a token has loss.

    Returns:
        `[B, T]` of the rewards' type, 0 everywhere else.
    """
    tokens_left = mask.flip(-1).cumsum(-1).flip(-1)
    return torch.where(mask & (tokens_left == 1), rewards[:, None], 0.0)


@torch.no_grad()
def generalized_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Generalized advantage estimation (arXiv 1506.02438, Eq. 16), one step per token that the policy chose.

    `delta_t = r_t + gamma V_next - V_t` and `A_t = delta_t + gamma lambda A_next`, where "next" is
    the next token of the mask: the tokens of an environment in between are part of the transition.
    After the last one both are 0, for the episode is over.

    Args:
        rewards: `[B, T]`, counted on the mask alone; see `terminal_rewards`.
        values: `[B, T]`, the expected return *before* the token, that is of the state that it
            answers to.
        mask: `[B, T]` bool, True where a token has loss.
        gamma: Discount of the future, per token.
        gae_lambda: 0 trusts the values (less variance), 1 trusts the rewards (no bias).

    Returns:
        `[B, T]` advantages and returns (`advantages + values`), both without gradient and 0 outside
        the mask.
    """
    columns = []
    next_value = next_advantage = values.new_zeros(len(values))
    for reward, value, here in reversed(list(zip(rewards.T, values.T, mask.T, strict=True))):
        advantage = reward + gamma * next_value - value + gamma * gae_lambda * next_advantage
        columns.append(torch.where(here, advantage, 0.0))
        next_advantage = torch.where(here, advantage, next_advantage)
        next_value = torch.where(here, value, next_value)
    advantages = torch.stack(columns[::-1], -1) if columns else torch.zeros_like(values)
    return advantages, torch.where(mask, advantages + values, 0.0)


def whiten(advantages: Tensor, mask: Tensor, *, mean: float, std: float) -> Tensor:
    """`(A - mean) / (std + 1e-6)`.

    Mean and standard deviation are given, since they are those of the whole batch, which no
    micro-batch holds.

    Args:
        advantages: `[B, T]`.
        mask: `[B, T]` bool, True where a token has loss.
        mean: Over all tokens with loss of the batch.
        std: The same.

    Returns:
        `[B, T]`, 0 outside the mask.
    """
    return torch.where(mask, (advantages - mean) / (std + STD_EPSILON), 0.0)


def value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    weights: Tensor,
    *,
    value_clip: float | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Squared error of the values, clipped as in PPO: `max((V - R)^2, (clip(V, V_old ± c) - R)^2) / 2` per token.

    A value that has already moved towards its return by more than `c` since the rollout has no
    gradient.

    Args:
        values: `[B, T]` of the value model, with gradient.
        old_values: `[B, T]` as they were when the advantages were taken.
        returns: `[B, T]`, see `generalized_advantages`.
        mask: `[B, T]` bool, True where a token has loss.
        weights: `[B]`, the weight of each token of a response, as in the policy loss.
        value_clip: Range `c` in units of return, or None for the plain squared error.

    Returns:
        The scalar loss, and detached sums over tokens: `value_loss_sum` (weighted, the loss
        itself), `value_error_square_sum`, `return_sum`, `return_square_sum` (from which the
        explained variance follows), and `value_clip_count` (tokens whose gradient the clip stops).
    """
    square = torch.where(mask, values - returns, 0.0).square()
    worse = square
    if value_clip is not None:
        clipped = old_values + (values - old_values).clamp(-value_clip, value_clip)
        worse = torch.maximum(square, torch.where(mask, clipped - returns, 0.0).square())
    loss = weighted_sum(worse / 2, mask, weights)

    with torch.no_grad():
        known = torch.where(mask, returns, 0.0)
        statistics = {
            "value_loss_sum": loss.detach(),
            "value_error_square_sum": square.detach().sum(),
            "return_sum": known.sum(),
            "return_square_sum": known.square().sum(),
            "value_clip_count": (worse > square).sum(),
        }
    return loss, statistics
