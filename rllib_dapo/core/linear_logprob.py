"""Log-probabilities and entropies straight from hidden states and a linear head: logits are never held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rllib_dapo.core.logprob import (
    LOWEST_LOGIT,
    full_precision,
    incoming_gradients,
    scaled_logits,
    softmax_gradient,
)

# Words per tile of logits. On a CPU a tile of some thousand rows stays in the cache, and is small
# enough for the C library to use its memory again: fresh pages, which the system has to zero, take
# longer than the arithmetic. On an accelerator tiles are larger, since each operation costs a
# launch.
CPU_TILE_WORDS, TILE_WORDS = 1024, 16_384


class _LinearLogprobs(torch.autograd.Function):
    """`logprob_and_entropy` of `hidden @ weight.T + bias`, one tile of rows and words at a time.

    The softmax's maximum, total and first moment are carried from tile to tile; the backward pass
    computes every tile again and adds its products to the gradients. That is one matrix product
    more, in exchange for all passes over `[N, V]` in main memory.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk_tokens: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.temperature, ctx.chunk_tokens, ctx.dtype = temperature, chunk_tokens, dtype
        with full_precision(hidden):
            parts = [
                _forward_rows(hidden[rows].to(dtype), weight, bias, targets[rows], temperature)
                for rows in _slices(len(hidden), chunk_tokens)
            ]
        logprobs, entropy, log_z = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(hidden, weight, bias, targets, log_z, entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, log_z, entropy = ctx.saved_tensors
        nothing = (None,) * 4
        incoming = incoming_gradients(gradients, like=log_z, temperature=ctx.temperature)
        if incoming is None:
            return None, None, None, *nothing
        of_logprob, of_entropy = incoming
        of_hidden, of_weight, of_bias = (
            _zeros_for_sum(tensor) if needed else None
            for tensor, needed in zip((hidden, weight, bias), ctx.needs_input_grad[:3], strict=True)
        )
        for rows in _slices(len(hidden), ctx.chunk_tokens):
            inputs, of_chosen = hidden[rows].to(ctx.dtype), of_logprob[rows]
            for words in _slices(len(weight), _tile_words(hidden)):
                log_p = _tile_logits(inputs, weight, bias, words, ctx.temperature).sub_(
                    log_z[rows, None]
                )
                tile = softmax_gradient(
                    log_p,
                    entropy[rows],
                    of_chosen,
                    None if of_entropy is None else of_entropy[rows],
                )
                index, inside = _places(targets[rows], words)
                tile.scatter_add_(-1, index, torch.where(inside, of_chosen, 0.0)[:, None])
                if of_bias is not None:
                    of_bias[words] += tile.sum(0)
                tile = tile.to(ctx.dtype)
                if of_hidden is not None:
                    of_hidden[rows] += tile @ weight[words].to(ctx.dtype)
                if of_weight is not None:
                    of_weight[words] += tile.T @ inputs
        sums = zip((of_hidden, of_weight, of_bias), (hidden, weight, bias), strict=True)
        return *(
            None if total is None else total.to(tensor.dtype) for total, tensor in sums
        ), *nothing


def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    temperature: float,
    chunk_tokens: int,
) -> tuple[Tensor, Tensor]:
    """`logprob_and_entropy` of `hidden @ weight.T + bias`, in the type that autocast would compute the product in.

    Args:
        hidden: `[N, H]` last hidden states.
        weight: `[V, H]` of the head.
        bias: `[V]` of the head, or None.
        targets: `[N]` token ids.
        temperature: The sampling temperature.
        chunk_tokens: Rows per tile.

    Returns:
        `[N]` log-probabilities and `[N]` entropies, in at least float32, with gradient to all that
        have one.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    logprobs, entropy = _LinearLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, temperature, chunk_tokens, dtype
    )
    return logprobs, entropy


def _forward_rows(
    inputs: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`[n]` log-probabilities, entropies, and logarithms of the softmax's denominator.

    With the maximum `m` of the logits `x` so far, `total` is the sum of `exp(x - m)` and `moment`
    that of `exp(x - m) (x - m)`; both are corrected when a tile has a larger `m`.
    """
    total = moment = chosen = inputs.new_zeros(
        len(inputs), dtype=torch.promote_types(inputs.dtype, torch.float32)
    )
    shift = torch.full_like(total, LOWEST_LOGIT)
    for words in _slices(len(weight), _tile_words(inputs)):
        tile = _tile_logits(inputs, weight, bias, words, temperature)
        index, inside = _places(targets, words)
        chosen = torch.where(inside, tile.gather(-1, index).squeeze(-1), chosen)
        before, shift = shift, torch.maximum(shift, tile.amax(-1))
        exponentials = tile.sub_(shift[:, None]).exp()
        shrink = (before - shift).exp()
        moment = shrink * (moment + (before - shift) * total) + torch.einsum(
            "nv,nv->n", exponentials, tile
        )
        total = shrink * total + exponentials.sum(-1)
    return chosen - shift - total.log(), total.log() - moment / total, shift + total.log()


def _tile_logits(
    inputs: Tensor, weight: Tensor, bias: Tensor | None, words: slice, temperature: float
) -> Tensor:
    """`[n, v]` scaled logits of some words."""
    logits = inputs @ weight[words].to(inputs.dtype).T
    if bias is not None:
        logits += bias[words]
    return scaled_logits(logits, temperature, copy=False)


def _places(targets: Tensor, words: slice) -> tuple[Tensor, Tensor]:
    """`[n, 1]` where in a tile each target is, and `[n]` whether it is in it at all (if not: a place to ignore)."""
    index = targets - words.start
    inside = (index >= 0) & (targets < words.stop)
    return torch.where(inside, index, 0)[:, None], inside


def _slices(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices; one empty slice for a length of 0, so that nothing also has a result."""
    return (slice(start, min(start + size, length)) for start in range(0, max(1, length), size))


def _tile_words(tensor: Tensor) -> int:
    return CPU_TILE_WORDS if tensor.device.type == "cpu" else TILE_WORDS


def _zeros_for_sum(tensor: Tensor) -> Tensor:
    """Sums over tiles lose too much in half precision."""
    return torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))
