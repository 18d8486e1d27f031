"""Weights on disk: an ordinary Hugging Face folder inside RLlib's checkpoint.

So an export is a copy, and no weight of the model has to be unpickled to be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

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

# The prefix of the names of the value head's weights, and the head's own folder: it is not part of
# the language model, and an export leaves it behind.
VALUE_HEAD = "value_head."
VALUE_HEAD_FOLDER = "value_head"

# What lies beside the model: RLlib's own files, and the value head.
LEFT_BEHIND = ("metadata.json", "class_and_ctor_args.pkl", "module_state.pkl", VALUE_HEAD_FOLDER)
MODULE_PATH = Path(
    COMPONENT_LEARNER_GROUP, COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
)


def load_weights(model: PreTrainedModel, state: Mapping[str, Tensor]) -> None:
    """Loads a whole state dict; weights that are tied to others may be missing in it.

    Args:
        model: Model that takes the weights.
        state: Weights by name, as in `model.state_dict()`.

    Raises:
        ValueError: If a parameter of the model has no weight in `state`, or the other way round, or
            a shape differs.
    """
    own = model.state_dict()
    missing = sorted(set(dict(model.named_parameters())) - set(state))
    unexpected = sorted(set(state) - set(own))
    reshaped = sorted(
        name for name in set(state) & set(own) if state[name].shape != own[name].shape
    )
    if missing or unexpected or reshaped:
        raise ValueError(
            f"these weights belong to another model: missing {missing[:3]}, "
            f"unknown {unexpected[:3]}, of another shape {reshaped[:3]}"
        )

    # Not strict, for tied weights alone: what else is missing has been refused.
    model.load_state_dict(dict(state), strict=False)


def write_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    weights: Mapping[str, Tensor],
) -> None:
    """Writes weights, configuration and tokenizer as transformers does.

    A value head goes into a folder of its own.

    Args:
        folder: An existing folder.
        model: Model with the configuration to write; its own weights are not looked at.
        tokenizer: The model's tokenizer.
        weights: Weights by name; those of a value head begin with `VALUE_HEAD`.
    """
    value_head = {
        k.removeprefix(VALUE_HEAD): v.contiguous()
        for k, v in weights.items()
        if k.startswith(VALUE_HEAD)
    }
    model.save_pretrained(
        folder, state_dict={k: v for k, v in weights.items() if not k.startswith(VALUE_HEAD)}
    )
    tokenizer.save_pretrained(folder)

    if value_head:
        (folder / VALUE_HEAD_FOLDER).mkdir(exist_ok=True)
        save_file(value_head, folder / VALUE_HEAD_FOLDER / "model.safetensors")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a Hugging Face folder by name, those of a value head included.

    Args:
        folder: Folder with any number of `*.safetensors` files.

    Raises:
        FileNotFoundError: If it has none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no *.safetensors in {folder}")
    weights = {name: tensor for file in files for name, tensor in load_file(file).items()}

    heads = sorted((folder / VALUE_HEAD_FOLDER).glob("*.safetensors"))
    return weights | {
        VALUE_HEAD + name: tensor for file in heads for name, tensor in load_file(file).items()
    }
