"""What PPO needs beside the policy loss: advantages from a value model, and that model's loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from rllib_dapo.core.normalizer import weighted_sum

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped

STD_EPSILON = 1e-6


def terminal_rewards(
    rewards: Float[Tensor, "B"], mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """`r_it = R_i` on the last token with loss of response `i`, else 0.

    The environment rewards a response once, at its end.

    Args:
        rewards: `[B]` reward of each response.
        mask: `[B, T]` True where a token has loss.

    Returns:
        `[B, T]` rewards, of the type of `rewards`.

    Source: the rewards of DAPO, Eq. 3 (arXiv 2503.14476), when only the outcome is rewarded.
    """
    tokens_from_here = mask.flip(-1).cumsum(-1).flip(-1)
    return torch.where(mask & (tokens_from_here == 1), rewards[:, None], 0.0)


@torch.no_grad()
def generalized_advantages(
    rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    *,
    gamma: float,
    gae_lambda: float,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """`A_t = δ_t + γ λ A_next`, with `δ_t = r_t + γ V_next - V_t`.

    A step is a token that the policy chose: "next" is the next token of the mask, and the tokens of
    an environment in between belong to the transition. After the last token of the mask both `V`
    and `A` are 0, since the episode is over.

    Args:
        rewards: `[B, T]` rewards, of which only those on the mask count; see `terminal_rewards`.
        values: `[B, T]` expected return *before* each token, that is, of the state in which the
            token is chosen.
        mask: `[B, T]` True where a token has loss.
        gamma: Discount factor `γ` per token.
        gae_lambda: `λ`; 0 trusts the values (less variance), 1 trusts the rewards (no bias).

    Returns:
        `[B, T]` advantages and `[B, T]` returns (`A + V`), without gradient and 0 outside the mask.

    Source: DAPO, Eq. 2 and 3 (arXiv 2503.14476); GAE, Eq. 16 (arXiv 1506.02438).
    """
    # Tokens of the mask first, in their order: "next" is then the column to the right, and what
    # stands behind them is 0.
    order = mask.logical_not().long().argsort(stable=True)
    here = mask.gather(-1, order)
    reward, value = (torch.where(here, x.gather(-1, order), 0.0) for x in (rewards, values))

    next_value = functional.pad(value[:, 1:], (0, min(1, value.shape[-1])))
    errors = reward + gamma * next_value - value

    ordered = discounted_sums(errors, gamma * gae_lambda)
    advantages = torch.zeros_like(ordered).scatter(-1, order, ordered)
    return torch.where(mask, advantages, 0.0), torch.where(mask, advantages + values, 0.0)


def discounted_sums(values: Float[Tensor, "B T"], factor: float) -> Float[Tensor, "B T"]:
    """`S_t = Σ_k factor^k x_{t+k}`, by doubling: `⌈log2 T⌉` steps instead of `T`.

    A sum over `2n` columns is one over `n` and, `n` columns further on, another one.

    Args:
        values: `[B, T]` the `x`.
        factor: Discount per column, from 0 to 1.

    Returns:
        `[B, T]` sums.

    Source: Hillis and Steele, "Data Parallel Algorithms" (1986).
    """
    reach, columns = 1, values.shape[-1]
    while reach < columns:
        values = values + factor**reach * functional.pad(values[:, reach:], (0, reach))
        reach *= 2
    return values


def whiten(
    advantages: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], *, mean: float, std: float
) -> Float[Tensor, "B T"]:
    """`(A_t - mean(A)) / (std(A) + 1e-6)`.

    The moments are arguments because they are those of the whole batch, which no micro-batch holds.

    Args:
        advantages: `[B, T]` advantages.
        mask: `[B, T]` True where a token has loss.
        mean: Mean over all tokens with loss of the batch.
        std: Standard deviation over the same tokens.

    Returns:
        `[B, T]` whitened advantages, 0 outside the mask.

    Source: common practice in implementations of PPO; not part of DAPO.
    """
    return torch.where(mask, (advantages - mean) / (std + STD_EPSILON), 0.0)


def value_loss(
    values: Float[Tensor, "B T"],
    old_values: Float[Tensor, "B T"],
    returns: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    weights: Float[Tensor, "B"],
    *,
    value_clip: float | None,
) -> tuple[Float[Tensor, ""], dict[str, Shaped[Tensor, ""]]]:
    """`Σ_i w_i Σ_t max((V - R)², (clip(V, V_old ± c) - R)²) / 2`.

    The clip takes the gradient from a value that has already moved towards its return by more than
    `c` since the rollout.

    Args:
        values: `[B, T]` values `V` under the model being trained, with gradient.
        old_values: `[B, T]` values `V_old` that the advantages were computed from.
        returns: `[B, T]` returns `R`, see `generalized_advantages`.
        mask: `[B, T]` True where a token has loss.
        weights: `[B]` weight of each token of a response, as in the policy loss.
        value_clip: Range `c` in units of return, or None for the plain squared error.

    Returns:
        The scalar loss, and detached sums over tokens: `value_loss_sum` (weighted, the loss
        itself), `value_error_square_sum`, `return_sum`, `return_square_sum` (from which the
        explained variance follows), `value_clip_count` (tokens whose gradient the clip stops), and
        `value_tokens` (all of them).

    Source: PPO (arXiv 1707.06347), with the clipped values of its authors' implementation.
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
            "value_tokens": mask.sum(),
        }
    return loss, statistics
