"""Weights on disk: an ordinary Hugging Face folder inside RLlib's checkpoint, so that export is a copy.

No pickle holds a weight, and none is opened to get at one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from safetensors.torch import load_file
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# What RLlib writes beside the model.
RLLIB_FILES = ("metadata.json", "class_and_ctor_args.pkl", "module_state.pkl")
MODULE_PATH = Path(COMPONENT_LEARNER_GROUP, COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID)


def load_weights(model: PreTrainedModel, state: Mapping[str, Tensor]) -> None:
    """Loads a whole state dict; weights tied to another may be left out of it.

    Args:
        model: Takes the weights.
        state: By name, as in `model.state_dict()`.

    Raises:
        ValueError: If a parameter of the model has no weight in `state`, or the other way round, or a shape differs.
    """
    own = model.state_dict()
    missing = sorted(set(dict(model.named_parameters())) - set(state))
    unexpected = sorted(set(state) - set(own))
    reshaped = sorted(name for name in set(state) & set(own) if state[name].shape != own[name].shape)
    if missing or unexpected or reshaped:
        raise ValueError(
            f"these weights belong to another model: missing {missing[:3]}, unknown {unexpected[:3]}, "
            f"of another shape {reshaped[:3]}"
        )
    model.load_state_dict(dict(state), strict=False)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a Hugging Face folder, whatever the number of files.

    Raises:
        FileNotFoundError: If there is none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no *.safetensors in {folder}")
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def export_checkpoint(checkpoint: Path, folder: Path) -> Path:
    """Copies the model out of a checkpoint, for `transformers`, `vllm` and the hub.

    Args:
        checkpoint: A checkpoint of `DAPO`, made by Tune or by `algo.save_to_path`.
        folder: Where the model goes; made if absent, its files of the same names replaced.

    Returns:
        `folder`.

    Raises:
        FileNotFoundError: If there is no model in the checkpoint.
    """
    source = Path(checkpoint) / MODULE_PATH
    if not (source / "config.json").is_file():
        raise FileNotFoundError(
            f"{checkpoint} holds no trained model (no {MODULE_PATH}/config.json): name a checkpoint folder"
        )
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*RLLIB_FILES))
    return Path(folder)
