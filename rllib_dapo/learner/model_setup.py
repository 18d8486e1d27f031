"""What is done to a freshly loaded model before it is trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def disable_dropout(model: PreTrainedModel) -> None:
    """Switches every dropout off: the ratio's probabilities must not depend on chance.

    Not all of transformers' models have a module for each: some keep the probability as a number,
    some look it up in their configuration at every step.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0

    for owner in (*model.modules(), model.config):
        for name, value in list(vars(owner).items()):
            if "dropout" in name and isinstance(value, float):
                setattr(owner, name, 0.0)


def freeze_first_layers(model: PreTrainedModel, fraction: float) -> int:
    """Keeps the first layers from being trained, and the input embeddings with them.

    Embeddings that share their weights with the output are trained all the same.

    Args:
        model: Any decoder of transformers.
        fraction: Share of the decoder layers, in [0, 1), which is rounded up to whole layers.

    Returns:
        Number of frozen layers.

    Raises:
        ValueError: If the model's layers cannot be found.
    """
    if fraction <= 0:
        return 0

    layers = decoder_layers(model)
    frozen = min(math.ceil(fraction * len(layers)), len(layers))
    for layer in layers[:frozen]:
        layer.requires_grad_(False)

    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    if outputs is None or inputs.weight is not outputs.weight:
        inputs.requires_grad_(False)
    return frozen


def decoder_layers(
    model: PreTrainedModel,
    *,
    asked_by: str = "language_model.freeze_fraction",
    way_out: str = "set it to 0",
) -> nn.ModuleList:
    """The stack of decoder layers: as long as the configuration says.

    Args:
        model: Any decoder of transformers.
        asked_by: The setting that needs them.
        way_out: What to do about that setting where there are none.

    Raises:
        ValueError: If there is no such list.
    """
    depth = model.config.get_text_config().num_hidden_layers
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise ValueError(
        f"{asked_by}: no list of {depth} layers was found in {type(model).__name__}; {way_out}"
    )
