"""Log-probabilities and entropies of chosen tokens without holding all logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class _LogprobAndEntropy(torch.autograd.Function):
    """`log_softmax`, `gather` and entropy in few passes over `[N, V]`, none of which autograd has to keep.

    With `x = logits / temperature` and `p = softmax(x)`, the log-probability of target `t` has the gradient
    `(onehot(t) - p) / temperature` with respect to the logits. Only the logits as given (often bfloat16) and one number
    per row are kept for it; composed of torch's own functions, three float32 copies of `[N, V]` would be.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        scaled = _scaled(logits, temperature)
        log_z = scaled.logsumexp(-1)
        logprobs = scaled.gather(-1, targets[:, None]).squeeze(-1) - log_z
        probabilities = (scaled - log_z[:, None]).exp_()
        entropy = log_z - torch.einsum("nv,nv->n", probabilities, scaled)
        ctx.save_for_backward(logits, targets, log_z)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        logits, targets, log_z = ctx.saved_tensors
        gradient = gradients[0] / ctx.temperature
        result = _scaled(logits, ctx.temperature).sub_(log_z[:, None]).exp_().mul_(-gradient[:, None])
        result.scatter_add_(-1, targets[:, None], gradient[:, None])
        return result.to(logits.dtype), None, None


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    """A copy in at least float32, divided by the temperature.

    A logit of -inf (a word the model may not use) becomes the lowest finite number: its probability is 0 either way,
    but 0 times it is 0 in the entropy.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype, copy=True).div_(temperature).clamp_(min=torch.finfo(dtype).min)


def logprob_and_entropy(logits: Tensor, targets: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each distribution `softmax(logits / temperature)`.

    The division is the sampler's: a ratio between probabilities at different temperatures means nothing.

    Args:
        logits: `[N, V]`, any floating type; computed in float32 (or float64 if given so).
        targets: `[N]` token ids.
        temperature: The sampling temperature, positive.

    Returns:
        `[N]` log-probabilities in nats (with gradient) and `[N]` entropies in nats (without).
    """
    logprobs, entropy = _LogprobAndEntropy.apply(logits, targets, temperature)  # type: ignore[no-untyped-call]
    return logprobs, entropy


def chunked_logprobs(
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    targets: Tensor,
    *,
    temperature: float,
    chunk_tokens: int,
) -> tuple[Tensor, Tensor]:
    """`logprob_and_entropy` of `head(hidden)`, at most `chunk_tokens` rows of logits at a time.

    With more than one chunk, each is recomputed in the backward pass, so `[N, V]` is held in neither direction.

    Args:
        hidden: `[N, H]` last hidden states of the positions that predict the targets.
        head: The output projection, `[n, H] -> [n, V]`.
        targets: `[N]` token ids.
        temperature: The sampling temperature.
        chunk_tokens: Rows per chunk.

    Returns:
        `[N]` log-probabilities and `[N]` entropies, as `logprob_and_entropy`.
    """

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
