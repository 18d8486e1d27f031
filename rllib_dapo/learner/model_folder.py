"""Weights on disk: an ordinary Hugging Face folder inside RLlib's checkpoint, so that export is a copy.

No pickle holds a weight, and none is opened to get at one.
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

# What the names of the value head's weights begin with, and the folder that it has to itself: it is
# no part of the language model, and what is exported leaves it behind.
VALUE_HEAD = "value_head."
VALUE_HEAD_FOLDER = "value_head"

# What lies beside the model: RLlib's own files, and the value head.
LEFT_BEHIND = ("metadata.json", "class_and_ctor_args.pkl", "module_state.pkl", VALUE_HEAD_FOLDER)
MODULE_PATH = Path(
    COMPONENT_LEARNER_GROUP, COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
)


def load_weights(model: PreTrainedModel, state: Mapping[str, Tensor]) -> None:
    """Loads a whole state dict; weights tied to another may be left out of it.

    Args:
        model: Takes the weights.
        state: By name, as in `model.state_dict()`.

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
            f"these weights belong to another model: missing {missing[:3]}, unknown {unexpected[:3]}, "
            f"of another shape {reshaped[:3]}"
        )
    model.load_state_dict(dict(state), strict=False)


def write_model(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    weights: Mapping[str, Tensor],
) -> None:
    """Writes weights, configuration and tokenizer as transformers does, and a value head into a folder of its own.

    Args:
        folder: Where to; it exists.
        model: Whose configuration it is; its own weights are not looked at.
        tokenizer: The model's.
        weights: By name.
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
    """All tensors of a Hugging Face folder, whatever the number of files, and the value head's where it has one.

    Raises:
        FileNotFoundError: If there is none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no *.safetensors in {folder}")
    heads = sorted((folder / VALUE_HEAD_FOLDER).glob("*.safetensors"))
    weights = {name: tensor for file in files for name, tensor in load_file(file).items()}
    return weights | {
        VALUE_HEAD + name: tensor for file in heads for name, tensor in load_file(file).items()
    }
