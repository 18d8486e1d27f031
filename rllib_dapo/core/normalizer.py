"""How token losses become one number: a weight for each response, fixed before the mini-batch is cut up.

Every normaliser of the literature but one gives all tokens of a response the same weight, which
depends only on lengths. Computing these weights from the whole mini-batch makes the loss a plain
weighted sum, so its gradient cannot depend on how rows are spread over micro-batches or Learners.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

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
    """Weight of each token of each response of one mini-batch, so that `loss = sum_i w_i sum_t l_it`.

    | `loss_aggregation` | formula | source |
    | --- | --- | --- |
    | `token_mean` | sum over all tokens / their count | common practice for Eq. 12 |
    | `group_token_mean` | per group: sum / its token count; then the mean over groups | Eq. 8 read
        literally |
    | `sequence_mean` | per response: token mean; then the mean over responses | GRPO, Eq. 5 |
    | `sequence_sum_norm` | per response: token sum / `max_response_tokens`; mean over responses |
        arXiv 2503.20783 |
    | `microbatch_token_mean` | token mean of each micro-batch, weighted by its rows | what many
        published runs did |

    Args:
        loss_tokens: `[B]` number of tokens with loss, per response.
        groups: `[B]` which group each response belongs to.
        loss_aggregation: The normaliser's name. For `microbatch_token_mean` call this once for each
            micro-batch and multiply by its share of the rows: it is the only one that depends on
            the cut.
        max_response_tokens: The constant of `sequence_sum_norm`.

    Returns:
        `[B]` weights; 0 for a response without loss tokens.
    """
    rows = len(loss_tokens)
    tokens_of_group: Counter[int] = Counter()
    for group, tokens in zip(groups, loss_tokens, strict=True):
        tokens_of_group[group] += tokens
    total = sum(loss_tokens)

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


def weighted_sum(token_losses: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """`sum_i w_i sum_t l_it`: what every term of the loss is reduced with.

    Args:
        token_losses: `[B, T]`; outside the mask it may hold anything, and its gradient there is 0.
        mask: `[B, T]` bool, True where a token has loss.
        weights: `[B]`, see `response_weights`.
    """
    return (torch.where(mask, token_losses, 0.0) * weights.to(token_losses.dtype)[:, None]).sum()
