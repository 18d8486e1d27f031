"""The attention mask of rows that several responses share, for each kind of layer of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rllib_dapo.core import attention_mask
from rllib_dapo.core.collate import PADDING, PROMPT
from rllib_dapo.models import BLOCKS, EAGER, FLEX
from rllib_dapo.models.block_attention import row_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Transformers' names of the kinds of layers whose attention a mask can describe.
FULL, SLIDING = "full_attention", "sliding_attention"


def layer_kinds(config: PreTrainedConfig) -> set[str]:
    """The kinds of layers of a model, under transformers' names.

    Args:
        config: Configuration of the text model.

    Returns:
        Such as `{"full_attention", "sliding_attention"}`.
    """
    named = getattr(config, "layer_types", None)
    if named:
        return set(named)
    return {FULL if _window(config) is None else SLIDING}


def longest_window(config: PreTrainedConfig) -> int | None:
    """Number of tokens that the model's sliding windows cover; None where it has none.

    Args:
        config: Configuration of the text model.
    """
    return _window(config) if SLIDING in layer_kinds(config) else None


def takes_blocks(config: PreTrainedConfig) -> bool:
    """Whether attention leaves out what responses of one row do not see of each other.

    FlexAttention does so with any mask, `sdpa_blocks` where no layer has a window.

    Args:
        config: Configuration of the text model.
    """
    kernel = config._attn_implementation
    return kernel == FLEX or (kernel == BLOCKS and layer_kinds(config) == {FULL})


def shared_row_inputs(
    config: PreTrainedConfig, segment_ids: Tensor, position_ids: Tensor
) -> dict[str, Any]:
    """Arguments of a model that keep responses of one row apart.

    Args:
        config: Configuration of the text model.
        segment_ids: `[R, S]` segment of each token, see `core.collate`.
        position_ids: `[R, S]` position of each token in its own sequence.

    Returns:
        `position_ids`, `attention_mask` and, for `sdpa_blocks`, `row_blocks`.

    Raises:
        ValueError: If a layer is of a kind that no mask describes, such as one that carries state.
    """
    inputs: dict[str, Any] = {"position_ids": position_ids.long()}
    if config._attn_implementation == BLOCKS and takes_blocks(config):
        # A model passes on what looks like a finished mask, and makes none of its own then.
        nothing = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=segment_ids.device)
        return inputs | {"attention_mask": nothing, "row_blocks": row_blocks(segment_ids)}
    return inputs | {"attention_mask": shared_row_mask(config, segment_ids, position_ids)}


def shared_row_mask(
    config: PreTrainedConfig, segment_ids: Tensor, position_ids: Tensor
) -> Any | dict[str, Any]:
    """The mask that keeps responses of one row apart, in the form that the model takes.

    It replaces the masks that the model would make itself, so it has the model's windows in it.
    Models that name the kinds of their layers take a mask for each kind; those whose layers are all
    alike take one.

    Args:
        config: Configuration of the text model.
        segment_ids: `[R, S]` segment of each token, see `core.collate`.
        position_ids: `[R, S]` position of each token in its own sequence.

    Returns:
        `[R, 1, S, S]` for one kind of layers, else such a mask for each: boolean, True where query
        attends to key; added to the scores where attention is computed by `eager`, which adds;
        FlexAttention's `BlockMask` for that, which is never written out.

    Raises:
        ValueError: If a layer is of a kind that no mask describes, such as one that carries state.
    """
    kinds = layer_kinds(config)
    if unknown := kinds - {FULL, SLIDING}:
        raise ValueError(
            f"training.max_shared_row_tokens: layers of the kind {min(unknown)} cannot keep "
            "responses of one row apart; set it to 0"
        )

    def mask(kind: str) -> Any:
        window = _window(config) if kind == SLIDING else None
        if config._attn_implementation == FLEX:
            return block_mask(segment_ids, position_ids=position_ids, window=window)
        dense = attention_mask(segment_ids, position_ids=position_ids, window=window)
        return _in_form(dense, is_additive=config._attn_implementation == EAGER)

    masks = {kind: mask(kind) for kind in sorted(kinds)}
    takes_each = bool(getattr(config, "layer_types", None)) and SLIDING in kinds
    return masks if takes_each else next(iter(masks.values()))


def block_mask(segment_ids: Tensor, *, position_ids: Tensor, window: int | None) -> Any:
    """`core.attention_mask` as FlexAttention's `BlockMask`: a function, and which blocks are empty.

    Args:
        segment_ids: `[R, S]` segment of each token.
        position_ids: `[R, S]` position of each token in its own sequence.
        window: Number of tokens that a sliding window covers; None for none.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        of_query, of_key = segment_ids[row, query], segment_ids[row, key]
        seen = (key <= query) & ((of_key == of_query) | (of_key == PROMPT)) & (of_query != PADDING)
        if window is not None:
            seen = seen & (position_ids[row, query] - position_ids[row, key] < window)
        return seen | (key == query)

    rows, size = segment_ids.shape
    return create_block_mask(sees, rows, None, size, size, device=str(segment_ids.device))


def _window(config: PreTrainedConfig) -> int | None:
    if getattr(config, "use_sliding_window", True) is False:
        return None
    return getattr(config, "sliding_window", None)


def _in_form(mask: Tensor, *, is_additive: bool) -> Tensor:
    if not is_additive:
        return mask
    lowest = torch.finfo(torch.float32).min
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, lowest)
