"""The model that training starts from, as a Learner holds it: whole, or sharded as it is read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from rllib_dapo.learner.lora_adapter import computing_in_float32
from rllib_dapo.learner.model_setup import disable_dropout
from rllib_dapo.models import WeightTaker, load_causal_lm

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_start_model(
    name: str, settings: Mapping[str, Any], *, dtype: torch.dtype
) -> PreTrainedModel:
    """Loads the start model without dropout, in float32 or wider if it is to be trained itself.

    Under ZeRO-3 it is sharded as it is read, and then has the type that DeepSpeed trains.

    Args:
        name: A model folder or hub name.
        settings: The RLModule's configuration.
        dtype: Type of the computation.
    """
    if settings["lora"] is None:
        dtype = torch.promote_types(dtype, torch.float32)
    model = load_causal_lm(
        name,
        dtype=dtype,
        trust_remote_code=settings["trust_remote_code"],
        attn_implementation=settings["attn_implementation"],
        taker=_sharder(settings),
    )
    if settings["zero3"] is not None:
        from rllib_dapo.learner.zero_weights import move_buffers

        move_buffers(model)
    disable_dropout(model)
    return model


def callable_model(
    model: PreTrainedModel, settings: Mapping[str, Any]
) -> AbstractContextManager[None]:
    """For as long as it lasts, the model can be called, whole or sharded.

    Args:
        model: What `load_start_model` has loaded.
        settings: The RLModule's configuration.
    """
    if settings["zero3"] is None:
        return computing_in_float32(model) if settings["lora"] else nullcontext()
    from rllib_dapo.learner.zero_weights import gathered_in_turn

    return gathered_in_turn(model)


def _sharder(settings: Mapping[str, Any]) -> WeightTaker | None:
    """What shards weights as they are read, if anything does."""
    if settings["zero3"] is None:
        return None
    from rllib_dapo.learner.zero_weights import ZeroSharder

    return ZeroSharder(settings["zero3"])
