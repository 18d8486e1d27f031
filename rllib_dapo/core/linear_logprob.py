"""Log-probabilities and entropies from hidden states and a linear head, without the logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rllib_dapo.core.logit_adjustment import IDENTITY, LogitAdjustment
from rllib_dapo.core.logprob import (
    LOWEST_LOGIT,
    full_precision,
    incoming_gradients,
    scaled_logits,
    softmax_gradient,
)

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

# Words per tile of logits. On a CPU a tile of some thousand rows stays in the cache, and is small
# enough for the C library to reuse its memory: fresh pages, which the system has to zero, take
# longer than the arithmetic. On an accelerator tiles are larger, since each operation costs a
# launch.
CPU_TILE_WORDS, TILE_WORDS = 1024, 16_384


class _LinearLogprobs(torch.autograd.Function):
    """`logprob_and_entropy` of `f(hidden @ weight.T + bias)`, a tile of rows and words at a time.

    The maximum, total and first moment of the softmax are carried from tile to tile. The backward
    pass computes every tile again and adds its products to the gradients: one matrix product more,
    in exchange for all passes over `[N, V]` in main memory.
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
        adjustment: LogitAdjustment,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.temperature, ctx.chunk_tokens, ctx.dtype = temperature, chunk_tokens, dtype
        ctx.adjustment = adjustment

        with full_precision(hidden):
            parts = [
                _forward_rows(
                    hidden[rows].to(dtype), weight, bias, targets[rows], temperature, adjustment
                )
                for rows in _slices(len(hidden), chunk_tokens)
            ]

        logprobs, entropy, log_z = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(hidden, weight, bias, targets, log_z, entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, log_z, entropy = ctx.saved_tensors
        nothing = (None,) * 5
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
                # The gradient with respect to the logits of this tile, ...
                adjusted = _tile_logits(inputs, weight, bias, words, ctx.adjustment)
                slope = ctx.adjustment.slope(adjusted)
                log_p = scaled_logits(adjusted, ctx.temperature, copy=False).sub_(log_z[rows, None])
                tile = softmax_gradient(
                    log_p,
                    entropy[rows],
                    of_chosen,
                    None if of_entropy is None else of_entropy[rows],
                )
                index, inside = _places(targets[rows], words)
                tile.scatter_add_(-1, index, torch.where(inside, of_chosen, 0.0)[:, None])
                if not ctx.adjustment.is_identity:
                    tile.mul_(slope)

                # ... and its share of the gradients with respect to what the logits are made of.
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
    hidden: Float[Tensor, "N H"],
    weight: Float[Tensor, "V H"],
    bias: Float[Tensor, "V"] | None,
    targets: Int[Tensor, "N"],
    *,
    temperature: float,
    chunk_tokens: int,
    adjustment: LogitAdjustment = IDENTITY,
) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """`log p_y` and `H = -Σ_j p_j log p_j`, `p = softmax(f(h @ weight.T + bias) / temperature)`.

    The product is computed in the type that autocast would compute it in.

    Args:
        hidden: `[N, H]` last hidden states `h` of the positions that predict the targets.
        weight: `[V, H]` weight of the head.
        bias: `[V]` bias of the head, or None.
        targets: `[N]` token ids `y`.
        temperature: Sampling temperature, positive.
        chunk_tokens: Largest number of rows in a tile.
        adjustment: What the model makes of its logits, the function `f`; by default nothing.

    Returns:
        `[N]` log-probabilities and `[N]` entropies in nats, in at least float32, with gradient to
        hidden states, weight and bias.

    Source: the probabilities of DAPO, Eq. 6 (arXiv 2503.14476); the running softmax is that of
    arXiv 1805.02867.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    logprobs, entropy = _LinearLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, temperature, chunk_tokens, dtype, adjustment
    )
    return logprobs, entropy


def _forward_rows(
    inputs: Float[Tensor, "n H"],
    weight: Float[Tensor, "V H"],
    bias: Float[Tensor, "V"] | None,
    targets: Int[Tensor, "n"],
    temperature: float,
    adjustment: LogitAdjustment,
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"], Float[Tensor, "n"]]:
    """`log p_y`, `H` and `log Z` of each row, where `Z` is the denominator of the softmax.

    With the maximum `m` of the logits `x` so far, `total = Σ exp(x - m)` and
    `moment = Σ exp(x - m) (x - m)`; both are corrected when a tile has a larger `m`.
    """
    total = moment = chosen = inputs.new_zeros(
        len(inputs), dtype=torch.promote_types(inputs.dtype, torch.float32)
    )
    shift = torch.full_like(total, LOWEST_LOGIT)

    for words in _slices(len(weight), _tile_words(inputs)):
        adjusted = _tile_logits(inputs, weight, bias, words, adjustment)
        tile = scaled_logits(adjusted, temperature, copy=False)
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
    inputs: Float[Tensor, "n H"],
    weight: Float[Tensor, "V H"],
    bias: Float[Tensor, "V"] | None,
    words: slice,
    adjustment: LogitAdjustment,
) -> Float[Tensor, "n v"]:
    """Logits of some of the words, as the model gives them."""
    logits = inputs @ weight[words].to(inputs.dtype).T
    if bias is not None:
        logits += bias[words]
    if adjustment.is_identity:
        return logits
    return adjustment.apply_(logits.to(torch.promote_types(logits.dtype, torch.float32)))


def _places(
    targets: Int[Tensor, "n"], words: slice
) -> tuple[Int[Tensor, "n 1"], Bool[Tensor, "n"]]:
    """Column of each target in a tile, and whether the tile has it (if not, ignore the column)."""
    index = targets - words.start
    inside = (index >= 0) & (targets < words.stop)
    return torch.where(inside, index, 0)[:, None], inside


def _slices(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices; a length of 0 gives one empty slice, so that it too has a result."""
    return (slice(start, min(start + size, length)) for start in range(0, max(1, length), size))


def _tile_words(tensor: Tensor) -> int:
    return CPU_TILE_WORDS if tensor.device.type == "cpu" else TILE_WORDS


def _zeros_for_sum(tensor: Tensor) -> Tensor:
    """Zeros in at least float32: sums over tiles lose too much in half precision."""
    return torch.zeros_like(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))
