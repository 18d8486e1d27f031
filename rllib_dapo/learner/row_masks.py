"""The attention mask of rows that several responses share, for each kind of layer of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rllib_dapo.core import attention_mask

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


def shared_row_mask(
    config: PreTrainedConfig, segment_ids: Tensor, position_ids: Tensor
) -> Tensor | dict[str, Tensor]:
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
        attends to key; added to the scores where attention is computed by `eager`, which adds.

    Raises:
        ValueError: If a layer is of a kind that no mask describes, such as one that carries state.
    """
    kinds = layer_kinds(config)
    if unknown := kinds - {FULL, SLIDING}:
        raise ValueError(
            f"training.max_shared_row_tokens: layers of the kind {min(unknown)} cannot keep "
            "responses of one row apart; set it to 0"
        )

    is_eager = config._attn_implementation == "eager"
    masks = {
        kind: _in_form(
            attention_mask(
                segment_ids,
                position_ids=position_ids,
                window=_window(config) if kind == SLIDING else None,
            ),
            is_additive=is_eager,
        )
        for kind in sorted(kinds)
    }
    takes_each = bool(getattr(config, "layer_types", None)) and SLIDING in kinds
    return masks if takes_each else next(iter(masks.values()))


def _window(config: PreTrainedConfig) -> int | None:
    if getattr(config, "use_sliding_window", True) is False:
        return None
    return getattr(config, "sliding_window", None)


def _in_form(mask: Tensor, *, is_additive: bool) -> Tensor:
    if not is_additive:
        return mask
    lowest = torch.finfo(torch.float32).min
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, lowest)
