"""Weights on disk: an ordinary Hugging Face folder inside RLlib's checkpoint.

So an export is a copy, and no weight of the model has to be unpickled to be used.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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

from rllib_dapo.models import GENERATION_CONFIG, load_config, load_tokenizer, model_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The prefix of the names of the value head's weights, and the head's own folder: it is not part of
# the language model, and an export leaves it behind.
VALUE_HEAD = "value_head."
VALUE_HEAD_FOLDER = "value_head"

# What lies beside the model: RLlib's own files, and the value head.
LEFT_BEHIND = ("metadata.json", "class_and_ctor_args.pkl", "module_state.pkl", VALUE_HEAD_FOLDER)
MODULE_PATH = Path(
    COMPONENT_LEARNER_GROUP, COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
)


def write_model(
    folder: Path,
    model: PreTrainedModel,
    weights: Mapping[str, Tensor],
    *,
    source: str,
    trust_remote_code: bool = False,
) -> None:
    """Writes weights, configuration and tokenizer as transformers does.

    The weights keep their type, so that training can go on from them. Everything else comes out as
    it went in: the start model's configuration, with the type it was published in, and its
    generation configuration, which is copied, since transformers refuses to write some that it
    reads. A value head goes into a folder of its own.

    Args:
        folder: An existing folder.
        model: Model whose class writes the weights; its own weights are not looked at.
        weights: Weights by their names in a checkpoint; those of a value head begin with
            `VALUE_HEAD`.
        source: Folder or hub name of the start model.
        trust_remote_code: Whether code that comes with the model may run.
    """
    value_head = {
        k.removeprefix(VALUE_HEAD): v.contiguous()
        for k, v in weights.items()
        if k.startswith(VALUE_HEAD)
    }
    with _no_generation_config(model):
        model.save_pretrained(
            folder,
            state_dict={k: v for k, v in weights.items() if not k.startswith(VALUE_HEAD)},
            save_original_format=False,  # these names are the checkpoint's already
        )
    load_config(source, trust_remote_code=trust_remote_code).save_pretrained(folder)
    load_tokenizer(source, trust_remote_code=trust_remote_code).save_pretrained(folder)

    (folder / GENERATION_CONFIG).unlink(missing_ok=True)
    if (original := model_file(source, GENERATION_CONFIG)) is not None:
        shutil.copyfile(original, folder / GENERATION_CONFIG)

    if value_head:
        (folder / VALUE_HEAD_FOLDER).mkdir(exist_ok=True)
        save_file(value_head, folder / VALUE_HEAD_FOLDER / "model.safetensors")


@contextmanager
def _no_generation_config(model: PreTrainedModel) -> Iterator[None]:
    """Lets transformers save a model whose generation configuration it would refuse to write."""
    from transformers import GenerationConfig

    before = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before


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
