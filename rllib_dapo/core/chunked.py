"""Log-probabilities and entropies of chosen tokens without holding all logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rllib_dapo.core.linear_logprob import linear_logprobs
from rllib_dapo.core.logprob import logprob_and_entropy


def chunked_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Tensor,
    *,
    temperature: float,
    chunk_tokens: int,
) -> tuple[Tensor, Tensor]:
    """`logprob_and_entropy` of `head(hidden)`, at most `chunk_tokens` rows of logits at a time.

    A plain `nn.Linear` is never called: `core.linear_logprob` takes its weight, which needs hardly
    any memory. Of any other head, with more than one chunk, each is recomputed in the backward
    pass. Either way `[N, V]` is held in neither direction.

    Args:
        hidden: `[N, H]` last hidden states of the positions that predict the targets.
        head: The output projection, `[n, H] -> [n, V]`.
        targets: `[N]` token ids.
        temperature: The sampling temperature.
        chunk_tokens: Rows per chunk.

    Returns:
        `[N]` log-probabilities and `[N]` entropies, as `logprob_and_entropy`.
    """
    if is_plain_linear(head):
        return linear_logprobs(
            hidden,
            head.weight,
            head.bias,
            targets,
            temperature=temperature,
            chunk_tokens=chunk_tokens,
        )

    def one_chunk(rows: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        return logprob_and_entropy(head(rows), ids, temperature=temperature)

    if len(targets) <= chunk_tokens:
        return one_chunk(hidden, targets)
    pairs = zip(hidden.split(chunk_tokens), targets.split(chunk_tokens), strict=True)
    if torch.is_grad_enabled():
        results = [checkpoint(one_chunk, rows, ids, use_reentrant=False) for rows, ids in pairs]
    else:
        results = [one_chunk(rows, ids) for rows, ids in pairs]
    logprobs, entropies = zip(*results, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


def is_plain_linear(head: Callable[[Tensor], Tensor]) -> TypeGuard[nn.Linear]:
    """Whether calling `head` is `hidden @ weight.T + bias` and nothing more.

    Hooks do more: with ZeRO stage 3 one of them gathers the weight, which is empty before. So may
    subclasses and sharded parameters.
    """
    return (
        type(head) is nn.Linear
        and type(head.weight) is nn.Parameter
        and not (
            head._forward_pre_hooks
            or head._forward_hooks
            or head._backward_hooks
            or head._backward_pre_hooks
        )
    )
