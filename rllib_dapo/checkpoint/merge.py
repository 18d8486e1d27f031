"""One whole model made of an adapter and its base."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from rllib_dapo.learner.adapter_folder import BASE_KEY, read_adapter
from rllib_dapo.learner.lora_adapter import LoraAdapter
from rllib_dapo.learner.model_folder import write_weights
from rllib_dapo.models import CheckpointFormat, load_causal_lm, load_config
from rllib_dapo.models.lora_settings import LoraSettings


def write_merged(adapter_folder: Path, folder: Path, wanted: torch.dtype | None) -> None:
    """Writes the weights of a base with its adapter added: `W + scaling B A`.

    Each sum is computed in float32 and rounded once. The base is held in memory, in the type that
    it was published in.

    Args:
        adapter_folder: A folder of peft's format, which says what its base is.
        folder: An existing folder for the weights.
        wanted: Type of the weights; None leaves the base's.

    Raises:
        FileNotFoundError: If the base is not here.
        ValueError: If the adapter does not fit it.
    """
    config, weights = read_adapter(adapter_folder)
    base = str(config[BASE_KEY])
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise FileNotFoundError(
            f"the adapter's base model is not at {base}: put it there, or set {BASE_KEY} in "
            f"{adapter_folder / 'adapter_config.json'} to where it is"
        )

    model = load_causal_lm(base, dtype="auto")
    published = load_config(base).dtype
    to_checkpoint = CheckpointFormat(model).to_checkpoint
    adapter = LoraAdapter(
        model,
        LoraSettings(
            rank=config["r"],
            alpha=config["lora_alpha"],
            target_modules=tuple(config["target_modules"]),
            rslora=config["use_rslora"],
        ),
        seed=0,
        dtype=torch.float32,
    )
    adapter.load(weights)
    dtype = wanted or (published if isinstance(published, torch.dtype) else None)
    write_weights(folder, _in_type(to_checkpoint(adapter.merged_weights(model)), dtype))


def _in_type(
    weights: Iterator[tuple[str, Tensor]], dtype: torch.dtype | None
) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in weights:
        yield name, tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor
