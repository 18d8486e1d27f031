"""Copies a model out of a checkpoint, into a folder that transformers and vLLM understand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from rllib_dapo.checkpoint.merge import write_merged
from rllib_dapo.checkpoint.remote_copy import local_folder
from rllib_dapo.learner.adapter_folder import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from rllib_dapo.learner.model_folder import LEFT_BEHIND, MODULE_PATH

CONFIG, WEIGHTS = "config.json", "*.safetensors"
ORIGINAL = "original"


# Files that a program which loads a model may look at. One that another model has left would become
# part of the new one.
_OF_A_MODEL = (
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf", "*.json", "*.jinja", "*.model", "*.py"),
    *("merges.txt", "vocab.txt"),
)


def export_checkpoint(
    checkpoint: str | Path,
    folder: str | Path,
    *,
    dtype: str = ORIGINAL,
    overwrite: bool = False,
    merge: bool | None = False,
) -> Path:
    """Copies the model out of a checkpoint, for `transformers`, `vllm` and the hub.

    What the checkpoint says of its run goes along. Where an adapter was trained
    (`language_model.lora`), it is copied as it is, in peft's format; merged with its base it is a
    whole model.

    Args:
        checkpoint: Folder or URI of a checkpoint of `DAPO`, made by Tune or by `algo.save_to_path`.
        folder: Folder for the model: a new or empty one.
        dtype: Type of the weights, such as `"float32"`, which is what training keeps them in; by
            default the type that the start model was published in, and for an adapter alone
            float32.
        overwrite: Whether the folder may have files. Those of the same names are replaced, and
            nothing is removed.
        merge: Write a whole model where an adapter was trained: the base with the adapter added.
            None does so where there is an adapter; True refuses a checkpoint without one.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If there is no model in the checkpoint.
        FileExistsError: If the folder has files; with `overwrite`, if it has a part of another
            model that would not be replaced.
        ValueError: If there is no such type, or no adapter to merge.
    """
    target = Path(folder).expanduser()
    with local_folder(checkpoint, purpose="restore") as local:
        source = local / MODULE_PATH
        if not (source / CONFIG).is_file():
            raise FileNotFoundError(
                f"{checkpoint} holds no trained model (no {MODULE_PATH}/{CONFIG}): "
                "name a checkpoint folder"
            )
        config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
        wanted = _type(config.get("dtype") if dtype == ORIGINAL else dtype)
        files = _files_of_model(source)
        has_adapter = (source / ADAPTER_CONFIG).is_file()
        if merge and not has_adapter:
            raise ValueError(f"{checkpoint} holds a whole model, not an adapter: leave --merge out")
        if has_adapter and merge is not False:
            files = [file for file in files if file.name not in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)]
            _refuse_other_files(target, files, overwrite=overwrite)
            target.mkdir(parents=True, exist_ok=True)
            write_merged(source, target, wanted)
        else:
            _refuse_other_files(target, files, overwrite=overwrite)
        if has_adapter and dtype == ORIGINAL:
            wanted = None

        for file in files:
            copy = target / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            if file.match(WEIGHTS):
                save_file(_weights(source / file, wanted), copy, metadata={"format": "pt"})
            else:
                shutil.copyfile(source / file, copy)  # without its mode, which may be read-only

    if wanted is not None and dtype != ORIGINAL:
        config["dtype"] = dtype
        (target / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return target


def _files_of_model(source: Path) -> list[Path]:
    """Paths below the model's folder in a checkpoint, without what RLlib has put beside it."""
    below = (file.relative_to(source) for file in sorted(source.rglob("*")) if file.is_file())
    return [file for file in below if file.parts[0] not in LEFT_BEHIND]


def _refuse_other_files(folder: Path, files: Sequence[Path], *, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file: name another folder")
    there = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    if there and not overwrite:
        raise FileExistsError(
            f"{folder} has {len(there)} files already, {there[0]} for one: name another folder, or "
            "add --overwrite to replace files of the same names"
        )

    for file in there:
        if len(file.parts) == 1 and file not in files and any(map(file.match, _OF_A_MODEL)):
            raise FileExistsError(
                f"{folder} has {file}, which is not replaced and would become part of this model: "
                "remove it, or name another folder"
            )


def _weights(file: Path, wanted: torch.dtype | None) -> dict[str, torch.Tensor]:
    weights = load_file(file)
    if wanted is None:
        return weights
    return {k: v.to(wanted) if v.is_floating_point() else v for k, v in weights.items()}


def _type(name: str | None) -> torch.dtype | None:
    """The type of a name in a configuration; None leaves weights as they are."""
    if name is None:
        return None
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"--dtype {name}: must be a type such as float32 or bfloat16")
    return found
