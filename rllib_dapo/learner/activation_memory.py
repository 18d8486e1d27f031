"""What the backward pass needs of the forward pass: recomputed, or kept in main memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rllib_dapo.learner.model_setup import decoder_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Smaller tensors stay: a transfer takes longer than the memory is worth.
LEAST_ELEMENTS = 1024


def checkpoint_layers(model: PreTrainedModel, setting: bool | int) -> None:
    """Has layers recompute their activations in the backward pass.

    Args:
        model: Any decoder of transformers.
        setting: `language_model.gradient_checkpointing`: all layers, none, or their number, counted
            from the first.

    Raises:
        ValueError: If only some are to do so, and the model decides for all at once; one line.
    """
    if setting is False:
        return
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if setting is True:
        return

    name = f"language_model.gradient_checkpointing={setting}"
    layers = decoder_layers(model, asked_by=name, way_out="set it to true")
    if setting > len(layers):
        raise ValueError(f"{name} is more than the model's {len(layers)} layers: set it to true")
    if not all(hasattr(layer, "gradient_checkpointing") for layer in layers):
        raise ValueError(
            f"{name}: {type(model).__name__} recomputes all of its layers or none; set it to true"
        )
    for layer in layers[setting:]:
        layer.gradient_checkpointing = False  # type: ignore[assignment]


@contextmanager
def offloaded(model: nn.Module, *, pin_memory: bool = True) -> Iterator[None]:
    """What is saved for the backward pass meanwhile goes to main memory, and back when needed.

    Weights stay where they are; copies that autocast makes of them do not. With
    `gradient_checkpointing` inputs of layers alone are saved.

    Args:
        model: Whose weights stay.
        pin_memory: Whether main memory is pinned, so that nobody waits for a copy to it.

    Source: PyTorch's hooks for saved tensors, as in `torch.autograd.graph.save_on_cpu`, which
        would take the weights along.
    """
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor: Tensor) -> tuple[torch.device, Tensor]:
        # ZeRO-3 gives a weight its storage for as long as a layer runs.
        whole = tensor if tensor._base is None else tensor._base
        stays = isinstance(whole, nn.Parameter) or tensor.untyped_storage().data_ptr() in weights
        if stays or tensor.numel() < LEAST_ELEMENTS:
            return tensor.device, tensor
        there = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=pin_memory)
        return tensor.device, there.copy_(tensor, non_blocking=pin_memory)

    def unpack(packed: tuple[torch.device, Tensor]) -> Tensor:
        device, tensor = packed
        return tensor.to(device, non_blocking=pin_memory)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
