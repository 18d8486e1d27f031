"""Weights on disk: an ordinary Hugging Face folder inside RLlib's checkpoint, so that export is a copy.

No pickle holds a weight, and none is opened to get at one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What the names of the value head's weights begin with, and the folder that it has to itself: it is no part of the
# language model, and what is exported leaves it behind.
VALUE_HEAD = "value_head."
VALUE_HEAD_FOLDER = "value_head"

# What lies beside the model: RLlib's own files, and the value head.
LEFT_BEHIND = ("metadata.json", "class_and_ctor_args.pkl", "module_state.pkl", VALUE_HEAD_FOLDER)
PIECE_BYTES = 256 * 2**20
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


def write_model(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, weights: Mapping[str, Tensor]
) -> None:
    """Writes weights, configuration and tokenizer as transformers does, and a value head into a folder of its own.

    Args:
        folder: Where to; it exists.
        model: Whose configuration it is; its own weights are not looked at.
        tokenizer: The model's.
        weights: By name.
    """
    value_head = {k.removeprefix(VALUE_HEAD): v.contiguous() for k, v in weights.items() if k.startswith(VALUE_HEAD)}
    model.save_pretrained(folder, state_dict={k: v for k, v in weights.items() if not k.startswith(VALUE_HEAD)})
    tokenizer.save_pretrained(folder)
    if value_head:
        (folder / VALUE_HEAD_FOLDER).mkdir(exist_ok=True)
        save_file(value_head, folder / VALUE_HEAD_FOLDER / "model.safetensors")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a Hugging Face folder, whatever the number of files, and the value head's where it has one.

    Raises:
        FileNotFoundError: If there is none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no *.safetensors in {folder}")
    heads = sorted((folder / VALUE_HEAD_FOLDER).glob("*.safetensors"))
    weights = {name: tensor for file in files for name, tensor in load_file(file).items()}
    return weights | {VALUE_HEAD + name: tensor for file in heads for name, tensor in load_file(file).items()}


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
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    return Path(folder)


def to_numpy(tensor: Tensor, dtype: torch.dtype) -> np.ndarray:
    """A copy as NumPy array; bfloat16, which NumPy lacks, as its bits in uint16.

    Args:
        tensor: On any device.
        dtype: What floating-point numbers are rounded to; whole numbers stay as they are.
    """
    tensor = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
    return (tensor.view(torch.uint16) if tensor.dtype is torch.bfloat16 else tensor).numpy().copy()


def to_tensors(arrays: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, Tensor]]:
    """The inverse of `to_numpy`. Object-store arrays are read-only, and torch warns of such: hence the copy."""
    for name, array in arrays:
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        yield name, tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor


def pieces(
    weights: Iterable[tuple[str, Tensor]], *, dtype: torch.dtype, max_bytes: int = PIECE_BYTES
) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Cuts a model's weights into pieces, so that no process ever holds a second copy of all of them.

    Args:
        weights: By name, perhaps made one after the other.
        dtype: The engine's.
        max_bytes: A piece ends with the tensor that reaches this size.
    """
    piece: list[tuple[str, np.ndarray]] = []
    for name, tensor in weights:
        piece.append((name, to_numpy(tensor, dtype)))
        if sum(array.nbytes for _, array in piece) >= max_bytes:
            yield piece
            piece = []
    if piece:
        yield piece
