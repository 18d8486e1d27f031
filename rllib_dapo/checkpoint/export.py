"""Copies a model out of a checkpoint, into a folder that transformers and vLLM understand."""

from __future__ import annotations

import shutil
from pathlib import Path

from rllib_dapo.learner.model_folder import LEFT_BEHIND, MODULE_PATH


def export_checkpoint(checkpoint: Path, folder: Path) -> Path:
    """Copies the model out of a checkpoint, for `transformers`, `vllm` and the hub.

    Args:
        checkpoint: Folder of a checkpoint of `DAPO`, made by Tune or by `algo.save_to_path`.
        folder: Folder for the model; created if absent. Files of the same names are replaced.

    Returns:
        `folder`.

    Raises:
        FileNotFoundError: If there is no model in the checkpoint.
    """
    source = Path(checkpoint) / MODULE_PATH
    if not (source / "config.json").is_file():
        raise FileNotFoundError(
            f"{checkpoint} holds no trained model (no {MODULE_PATH}/config.json): "
            "name a checkpoint folder"
        )
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    return Path(folder)
