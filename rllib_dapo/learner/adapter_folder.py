"""An adapter on disk, in peft's own format, which transformers and vLLM load beside its base."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from rllib_dapo.learner.model_folder import VALUE_HEAD, VALUE_HEAD_FOLDER

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE_KEY = "base_model_name_or_path"


def write_adapter(
    folder: Path, config: Mapping[str, Any], weights: Iterable[tuple[str, Tensor]]
) -> None:
    """Writes an adapter, and a value head into a folder of its own.

    Args:
        folder: An existing folder.
        config: See `LoraAdapter.peft_config`.
        weights: The adapter's tensors by their names in peft's files, and those of a value head,
            whose names begin with `VALUE_HEAD`.
    """
    adapter: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    for name, tensor in weights:
        part = head if name.startswith(VALUE_HEAD) else adapter
        part[name.removeprefix(VALUE_HEAD)] = tensor.detach().to("cpu").contiguous()

    (folder / ADAPTER_CONFIG).write_text(json.dumps(dict(config), indent=2) + "\n")
    save_file(adapter, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    if head:
        (folder / VALUE_HEAD_FOLDER).mkdir(exist_ok=True)
        save_file(head, folder / VALUE_HEAD_FOLDER / "model.safetensors")


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and tensors of an adapter, without a value head.

    Args:
        folder: A folder of peft's format.

    Raises:
        FileNotFoundError: If there is no adapter in it.
    """
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"no {name} in {folder}")
    config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    return config, load_file(folder / ADAPTER_WEIGHTS)
