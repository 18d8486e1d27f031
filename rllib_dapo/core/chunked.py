"""Log-probabilities and entropies of chosen tokens without holding all logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rllib_dapo.core.linear_logprob import linear_logprobs
from rllib_dapo.core.logit_adjustment import IDENTITY, LogitAdjustment
from rllib_dapo.core.logprob import logprob_and_entropy
from rllib_dapo.core.sampling_set import EVERY_TOKEN, SamplingSet

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def chunked_logprobs(
    hidden: Float[Tensor, "N H"],
    head: Callable[[Tensor], Tensor],
    targets: Int[Tensor, "N"],
    *,
    temperature: float,
    chunk_tokens: int,
    adjustment: LogitAdjustment = IDENTITY,
    sampling_set: SamplingSet = EVERY_TOKEN,
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """`log p_y` and `H = -Σ_j p_j log p_j`, with `p = softmax(f(head(hidden)) / temperature)`.

    All logits `[N, V]` are never held, neither forward nor backward: logits in full are most of the
    memory of a small model. A plain `nn.Linear` is not even called, since `core.linear_logprob`
    works tile by tile on its weight (measured: 166 MiB instead of 3,859, in 0.85 of the time). Any
    other head, and one whose weight is gathered as it is called (ZeRO-3), is called chunk by chunk,
    and called again in the backward pass. So is every head where not all tokens are sampled, since
    all logits of a row must be known before it is clear which of them count.

    Args:
        hidden: `[N, H]` last hidden states of the positions that predict the targets.
        head: Output projection `[n, H] -> [n, V]`.
        targets: `[N]` token ids `y`.
        temperature: Sampling temperature, positive.
        chunk_tokens: Largest number of rows in a chunk.
        adjustment: What the model makes of its logits, the function `f`; by default nothing.
        sampling_set: Which tokens `p` is over, as for `logprob_and_entropy`; by default all.

    Returns:
        `[N]` log-probabilities and `[N]` entropies, in nats, as from `logprob_and_entropy`.

    Source: the probabilities of DAPO, Eq. 6 (arXiv 2503.14476).
    """
    if is_plain_linear(head) and sampling_set.is_whole:
        return linear_logprobs(
            hidden,
            head.weight,
            head.bias,
            targets,
            temperature=temperature,
            chunk_tokens=chunk_tokens,
            adjustment=adjustment,
        )

    def one_chunk(rows: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        return logprob_and_entropy(
            adjustment(head(rows)), ids, temperature=temperature, sampling_set=sampling_set
        )

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
    """`head(x) = x @ weight.T + bias`, and nothing more: whether `head` may be left uncalled.

    Hooks do more: with ZeRO stage 3 one of them gathers the weight, which is empty before. So may
    subclasses and sharded parameters.

    Args:
        head: Output projection of a model.

    Source: `torch.nn.Linear`.
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
