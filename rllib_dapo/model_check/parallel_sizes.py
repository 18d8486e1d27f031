"""Whether a model can be cut into as many parts as an engine has workers, by its files alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_dapo.model_check.model_report import ModelFinding
from rllib_dapo.model_check.sizes import read_text_config

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# What a layer is cut by. Of key-value heads fewer than workers are copied, if that comes out even.
_CUT = {
    "num_attention_heads": "attention heads",
    "num_key_value_heads": "key-value heads",
    "intermediate_size": "columns in its feed-forward layers",
}


def check_parallel_sizes(model: Path | str, config: DAPOConfig) -> list[ModelFinding]:
    """Checks the number of workers of an engine against the model's sizes.

    vLLM would find out once its workers have started, and says some of it in a bare assertion.

    Args:
        model: A model folder. For a hub name nothing is checked.
        config: Configuration with valid sizes.

    Returns:
        One finding for each size that does not fit.
    """
    sizes = read_text_config(Path(model))
    return [
        ModelFinding(check="engine", verdict="refused", detail=detail)
        for detail in (
            *_cut_layers(sizes, config.tensor_parallel_size),
            *_share_layers(sizes, config.pipeline_parallel_size),
        )
    ]


def _cut_layers(sizes: Mapping[str, Any], workers: int) -> Iterator[str]:
    misfit = _misfit(sizes, workers)
    if misfit is not None:
        fitting = max(n for n in range(1, workers) if _misfit(sizes, n) is None)
        yield (
            f"rollout.tensor_parallel_size={workers} does not divide the model's {sizes[misfit]} "
            f"{_CUT[misfit]}: set it to {fitting}"
        )


def _misfit(sizes: Mapping[str, Any], workers: int) -> str | None:
    """The first size that cannot be shared out among so many workers; None where all can."""
    for name in _CUT:
        size = sizes.get(name)
        if not isinstance(size, int) or size <= 0 or size % workers == 0:
            continue
        if name != "num_key_value_heads" or workers % size:
            return name
    return None


def _share_layers(sizes: Mapping[str, Any], groups: int) -> Iterator[str]:
    layers = sizes.get("num_hidden_layers")
    if isinstance(layers, int) and groups > max(1, layers):
        yield (
            f"rollout.pipeline_parallel_size={groups} leaves a worker without any of the model's "
            f"{layers} layers: lower it to {layers} or less"
        )
