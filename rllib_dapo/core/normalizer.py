"""How token losses become one number: a weight per response, fixed before a mini-batch is cut.

Every normalizer of the literature but one gives all tokens of a response the same weight, which
depends only on lengths. Computing these weights from the whole mini-batch makes the loss a plain
weighted sum, so its gradient cannot depend on how rows are spread over micro-batches or Learners.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

LossAggregation = Literal[
    "token_mean", "group_token_mean", "sequence_mean", "sequence_sum_norm", "microbatch_token_mean"
]
LOSS_AGGREGATIONS: tuple[str, ...] = get_args(LossAggregation)


def response_weights(
    loss_tokens: Sequence[int],
    groups: Sequence[int],
    *,
    loss_aggregation: LossAggregation,
    max_response_tokens: int,
) -> list[float]:
    """`w_i` such that `loss = Σ_i w_i Σ_t l_it`, one weight per response of a mini-batch.

    With `T_i` tokens in response `i` of `B`, which belongs to group `g` of `N`:

    | `loss_aggregation` | weight | source |
    | --- | --- | --- |
    | `token_mean` | `1 / Σ_j T_j` | the common reading of Eq. 12 |
    | `group_token_mean` | `1 / (N Σ_{j in g} T_j)` | Eq. 8, read literally |
    | `sequence_mean` | `1 / (B T_i)` | GRPO, Eq. 5 |
    | `sequence_sum_norm` | `1 / (B max_response_tokens)` | Dr. GRPO, arXiv 2503.20783 |
    | `microbatch_token_mean` | as `token_mean`, per micro-batch | many published runs |

    Args:
        loss_tokens: `[B]` number `T_i` of tokens with loss, per response.
        groups: `[B]` which group each response belongs to.
        loss_aggregation: Name of the normalizer. `microbatch_token_mean` is the only one that
            depends on the cut: call this once per micro-batch, and multiply by its share of the
            responses.
        max_response_tokens: The constant of `sequence_sum_norm`, in tokens.

    Returns:
        `[B]` weights, 0 for a response without loss tokens.

    Source: DAPO, Eq. 5, 8 and 12 (arXiv 2503.14476).
    """
    rows = len(loss_tokens)
    total = sum(loss_tokens)
    tokens_of_group: Counter[int] = Counter()
    for group, tokens in zip(groups, loss_tokens, strict=True):
        tokens_of_group[group] += tokens

    def weight(group: int, tokens: int) -> float:
        match loss_aggregation:
            case "token_mean" | "microbatch_token_mean":
                return 1.0 / total
            case "group_token_mean":
                return 1.0 / (len(tokens_of_group) * tokens_of_group[group])
            case "sequence_mean":
                return 1.0 / (rows * tokens)
            case "sequence_sum_norm":
                return 1.0 / (rows * max_response_tokens)

    return [weight(g, n) if n else 0.0 for g, n in zip(groups, loss_tokens, strict=True)]


def weighted_sum(
    token_losses: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], weights: Float[Tensor, "B"]
) -> Float[Tensor, ""]:
    """`Σ_i w_i Σ_t l_it`, the sum that every term of the loss is reduced with.

    Args:
        token_losses: `[B, T]` losses; outside the mask it may hold anything, even NaN, and its
            gradient there is 0.
        mask: `[B, T]` True where a token has loss.
        weights: `[B]` weight of each token of a response, see `response_weights`.

    Source: DAPO, Eq. 8 and 12 (arXiv 2503.14476).
    """
    return (torch.where(mask, token_losses, 0.0) * weights.to(token_losses.dtype)[:, None]).sum()
