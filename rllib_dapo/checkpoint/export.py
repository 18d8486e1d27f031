"""Copies a model out of a checkpoint, into a folder that transformers and vLLM understand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from rllib_dapo.learner.model_folder import LEFT_BEHIND, MODULE_PATH

CONFIG, WEIGHTS = "config.json", "*.safetensors"
ORIGINAL = "original"


def export_checkpoint(checkpoint: Path, folder: Path, *, dtype: str = ORIGINAL) -> Path:
    """Copies the model out of a checkpoint, for `transformers`, `vllm` and the hub.

    Args:
        checkpoint: Folder of a checkpoint of `DAPO`, made by Tune or by `algo.save_to_path`.
        folder: Folder for the model; created if absent. Files of the same names are replaced.
        dtype: Type of the weights, such as `"float32"`, which is what training keeps them in; by
            default the type that the start model was published in.

    Returns:
        `folder`.

    Raises:
        FileNotFoundError: If there is no model in the checkpoint.
        ValueError: If there is no such type.
    """
    source = Path(checkpoint) / MODULE_PATH
    if not (source / CONFIG).is_file():
        raise FileNotFoundError(
            f"{checkpoint} holds no trained model (no {MODULE_PATH}/{CONFIG}): "
            "name a checkpoint folder"
        )
    config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
    wanted = _type(config.get("dtype") if dtype == ORIGINAL else dtype)

    shutil.copytree(
        source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_BEHIND, WEIGHTS)
    )
    for file in sorted(source.glob(WEIGHTS)):
        weights = load_file(file)
        if wanted is not None:
            weights = {k: v.to(wanted) if v.is_floating_point() else v for k, v in weights.items()}
        save_file(weights, Path(folder) / file.name, metadata={"format": "pt"})

    if wanted is not None and dtype != ORIGINAL:
        config["dtype"] = dtype
        (Path(folder) / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return Path(folder)


def _type(name: str | None) -> torch.dtype | None:
    """The type of a name in a configuration; None leaves weights as they are."""
    if name is None:
        return None
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"--dtype {name}: must be a type such as float32 or bfloat16")
    return found
