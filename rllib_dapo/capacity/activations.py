"""What a forward pass keeps for its backward pass, in bytes.

Counted from what transformers' decoder layers save: two RMS norms, attention through a kernel that
never writes its scores, a gated feed-forward layer. Other layers save about as much.
"""

from __future__ import annotations

from rllib_dapo.capacity.layout import WIDTH, Precision
from rllib_dapo.capacity.model_shape import ModelShape
from rllib_dapo.core.linear_logprob import CPU_TILE_WORDS, TILE_WORDS

# Copies of a block of logits that are alive at once: themselves, scaled, exponentials, gradient.
LOGIT_COPIES = 4
# The same where top-k, top-p or min-p leave a set of tokens, which is found by sorting: 4.5 without
# top-p and 5.5 with it were measured.
SAMPLING_SET_COPIES = 6
# What the C library's heap keeps of memory that was freed; see `heap_bytes`.
HEAP_SHARE, LARGE_PAGE, LARGEST_HEAP_BLOCK = 0.55, 2 * 2**20, 32 * 2**20


def layer_bytes_per_token(shape: ModelShape, precision: Precision) -> float:
    """Bytes that one decoder layer keeps of one token.

    In one type of `e` bytes: `e (6 H + (2 h + 2 k) d + 4 I)`, with `H` the residual width, `h` and
    `k` the heads of queries and of keys, `d` their size, `I` the inner width. Of each norm its
    input, the normalized input and the output are kept; of attention queries, keys, values and
    output; of the feed-forward layer both projections, the activated one and their product. In
    bfloat16 a norm works in float32 (`8 H` bytes each). Under autocast the residual stream stays in
    float32, and each projection has a bfloat16 copy of its input (`26 H` bytes in all).

    Args:
        shape: The model.
        precision: How the Learner computes.

    Source: transformers' Llama and Qwen2 layers; the count is that of Korthikanti et al. 2022
        (arXiv 2205.05198, Section 4), for these layers.
    """
    width = 2 if precision == "autocast" else WIDTH[precision]
    attention = (2 * shape.heads + 2 * shape.kv_heads) * shape.head_size
    norms = {"autocast": 26.0, "bfloat16": 16.0}.get(precision, 6.0 * width)

    # Tokens are gathered for their experts, and gathered again behind them.
    routed = 3 * shape.experts_per_token * shape.hidden
    return norms * shape.hidden + width * (attention + 4 * shape.inner + routed)


def score_bytes_per_token(shape: ModelShape, precision: Precision, *, row_tokens: int) -> float:
    """Bytes of attention scores of one token in one layer; 0 where no kernel writes them.

    Args:
        shape: The model.
        precision: How the Learner computes.
        row_tokens: Length of the row.
    """
    if not shape.is_eager:
        return 0.0
    width = 2 if precision == "autocast" else WIDTH[precision]
    return shape.heads * row_tokens * (width + 4)  # the softmax is taken in float32


def stack_bytes(
    shape: ModelShape, precision: Precision, *, tokens: int, row_tokens: int, checkpointed: int = 0
) -> float:
    """Bytes that the whole stack keeps of a micro-batch.

    A layer with checkpointing keeps its input alone, and one such layer at a time has everything.

    Args:
        shape: The model.
        precision: How the Learner computes.
        tokens: Tokens of the micro-batch, padding included.
        row_tokens: Tokens of a row.
        checkpointed: Number of layers that recompute; see `language_model.gradient_checkpointing`.
    """
    layer = layer_bytes_per_token(shape, precision)
    layer += score_bytes_per_token(shape, precision, row_tokens=row_tokens)
    residual = shape.hidden * (2 if precision == "bfloat16" else WIDTH.get(precision, 4))

    last_norm = 3 * residual
    kept = checkpointed * residual + (shape.layers - checkpointed) * layer
    # The last of them is recomputed when nothing of the layers above is left.
    at_once = max(kept, checkpointed * residual + layer if checkpointed else 0.0)
    return tokens * (at_once + last_norm)


def checkpointed_layers(setting: bool | int, layers: int) -> int:
    """Number of layers that recompute their activations.

    Args:
        setting: `language_model.gradient_checkpointing`: all, none, or a number.
        layers: Number of layers.
    """
    return layers * setting if isinstance(setting, bool) else min(setting, layers)


def head_bytes(
    shape: ModelShape,
    precision: Precision,
    *,
    loss_tokens: int,
    chunk_tokens: int,
    is_sharded: bool,
    is_restricted: bool,
    on_gpu: bool,
) -> float:
    """Bytes of log-probabilities while they are computed, without the logits in full.

    A plain projection goes tile by tile: `chunk_tokens` rows of some thousand words, and a float32
    gradient of the whole weight. A projection that ZeRO-3 gathers, or whose tokens are not all
    sampled, is called for `chunk_tokens` rows of all words; see `core.chunked`.

    Args:
        shape: The model.
        precision: How the Learner computes.
        loss_tokens: Response tokens of the micro-batch.
        chunk_tokens: `language_model.logprob_chunk_tokens`.
        is_sharded: Whether ZeRO-3 gathers the projection.
        is_restricted: Whether top-k, top-p or min-p leave some tokens out.
        on_gpu: Whether tiles are those of an accelerator.
    """
    rows = min(loss_tokens, chunk_tokens)
    words = shape.vocabulary
    wide = 8 if precision == "float64" else 4
    if not (is_sharded or is_restricted):
        words = min(words, TILE_WORDS if on_gpu else CPU_TILE_WORDS)
    copies = SAMPLING_SET_COPIES if is_restricted else LOGIT_COPIES
    logits = copies * rows * words * wide

    # The hidden states that predict a token, and their gradient.
    hidden = loss_tokens * shape.hidden * (2 if precision == "autocast" else WIDTH[precision])
    gradient = 0 if is_sharded else shape.embedding_parameters * wide
    return logits + gradient + hidden + loss_tokens * shape.hidden * wide


def layer_backward_bytes(shape: ModelShape, precision: Precision, *, tokens: int) -> float:
    """Bytes of gradients with respect to activations, in the backward pass of one layer.

    Args:
        shape: The model.
        precision: How the Learner computes.
        tokens: Tokens of the micro-batch.
    """
    width = 2 if precision == "autocast" else WIDTH[precision]
    return tokens * width * (3 * shape.inner + 2 * shape.hidden)


def heap_bytes(
    shape: ModelShape,
    precision: Precision,
    *,
    tokens: int,
    row_tokens: int,
    checkpointed: int = 0,
) -> float:
    """Bytes that the C library's heap keeps beside a micro-batch's activations, on a CPU.

    glibc takes blocks up to 32 MiB from a heap, which does not shrink while anything lies at its
    end, and gives larger ones back at once. Measured: 0.55 of what the layers keep. Layers that are
    recomputed one at a time count as if they kept everything, for the gradients of each layer's
    weights come to lie between what it has given back, and the next layer's blocks find no room
    there. From 2 MiB on torch takes blocks in large pages (see `rllib_dapo/rollout/__init__.py`),
    and these do find it.

    Args:
        shape: The model.
        precision: How the Learner computes.
        tokens: Tokens of the micro-batch.
        row_tokens: Tokens of a row.
        checkpointed: Number of layers that are recomputed.

    Source: `benchmarks/plan_memory.py`, with and without MALLOC_MMAP_THRESHOLD_, which keeps even
        small blocks out of the heap; mallopt(3) for the 32 MiB.
    """
    width = 2 if precision == "autocast" else WIDTH[precision]
    if tokens * shape.hidden * width > LARGEST_HEAP_BLOCK:
        return 0.0
    share = 1.0
    if tokens * shape.inner * width > LARGEST_HEAP_BLOCK:
        layer = layer_bytes_per_token(shape, precision)
        share = 1 - 4 * width * shape.inner / layer
    finds_room = tokens * shape.hidden * width >= LARGE_PAGE
    stack = stack_bytes(
        shape,
        precision,
        tokens=tokens,
        row_tokens=row_tokens,
        checkpointed=checkpointed if finds_room else 0,
    )
    return HEAP_SHARE * share * stack
