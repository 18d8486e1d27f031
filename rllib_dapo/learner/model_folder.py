"""Weights on disk: an ordinary Hugging Face folder inside RLlib's checkpoint.

So an export is a copy, and no weight of the model has to be unpickled to be used.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

# A file of weights is put together in main memory, beside the model.
FILE_BYTES = 128 * 2**20

# What lies beside the model: RLlib's own files, and the value head.
LEFT_BEHIND = ("metadata.json", "class_and_ctor_args.pkl", "module_state.pkl", VALUE_HEAD_FOLDER)
MODULE_PATH = Path(
    COMPONENT_LEARNER_GROUP, COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
)


def write_model(
    folder: Path,
    model: PreTrainedModel,
    weights: Iterable[tuple[str, Tensor]],
    *,
    source: str,
    **tokenizer_settings: Any,
) -> None:
    """Writes weights, configuration and tokenizer as transformers does, piece by piece.

    The weights keep their type, so that training can go on from them. Everything else comes out as
    it went in: the start model's configuration, with the type it was published in, and its
    generation configuration, which is copied, since transformers refuses to write some that it
    reads. A value head goes into a folder of its own.

    Args:
        folder: An existing folder.
        model: The model; its own weights are not looked at.
        weights: Names in a checkpoint, and weights, which may be made one after the other; the
            names of a value head's begin with `VALUE_HEAD`.
        source: Folder or hub name of the start model.
        **tokenizer_settings: Arguments of `load_tokenizer`.
    """
    value_head: dict[str, Tensor] = {}
    write_weights(folder, _without_value_head(weights, value_head))
    write_files(folder, model, source=source, **tokenizer_settings)
    if value_head:
        (folder / VALUE_HEAD_FOLDER).mkdir(exist_ok=True)
        save_file(value_head, folder / VALUE_HEAD_FOLDER / "model.safetensors")


def write_files(
    folder: Path, model: PreTrainedModel, *, source: str, **tokenizer_settings: Any
) -> None:
    """Writes all of a model's folder but its weights.

    Args:
        folder: As for `write_model`.
        model: As for `write_model`.
        source: As for `write_model`.
        **tokenizer_settings: As for `write_model`.
    """
    from transformers.dynamic_module_utils import custom_object_save

    if model._auto_class is not None:  # code that came with the model
        custom_object_save(model, folder, config=model.config)
    trust_remote_code = tokenizer_settings.get("trust_remote_code", False)
    load_config(source, trust_remote_code=trust_remote_code).save_pretrained(folder)
    load_tokenizer(source, **tokenizer_settings).save_pretrained(folder)

    (folder / GENERATION_CONFIG).unlink(missing_ok=True)
    if (original := model_file(source, GENERATION_CONFIG)) is not None:
        shutil.copyfile(original, folder / GENERATION_CONFIG)


def _without_value_head(
    weights: Iterable[tuple[str, Tensor]], value_head: dict[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """The language model's weights alone; those of the value head are put aside."""
    for name, tensor in weights:
        if name.startswith(VALUE_HEAD):
            value_head[name.removeprefix(VALUE_HEAD)] = tensor.to("cpu").contiguous()
        else:
            yield name, tensor


def write_weights(
    folder: Path, weights: Iterable[tuple[str, Tensor]], *, max_bytes: int = FILE_BYTES
) -> None:
    """Writes weights into files of bounded size, each before the next one's weights are made.

    One file is called as the Hub calls it, `model.safetensors`; several are numbered and have an
    index.

    Args:
        folder: An existing folder; weights that are there already are deleted.
        weights: Names and tensors, on any device.
        max_bytes: Size at which a file ends, with the tensor that reaches it.
    """
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

    for old in (*folder.glob("*.safetensors"), folder / SAFE_WEIGHTS_INDEX_NAME):
        old.unlink(missing_ok=True)

    written: list[Path] = []
    file_of: dict[str, int] = {}
    size = 0
    for piece in _pieces(weights, max_bytes):
        written.append(folder / f"piece-{len(written)}.safetensors")
        save_file(piece, written[-1], metadata={"format": "pt"})
        file_of |= dict.fromkeys(piece, len(written))
        size += sum(tensor.nbytes for tensor in piece.values())
        del piece  # before the next one is made

    if len(written) == 1:
        written[0].rename(folder / SAFE_WEIGHTS_NAME)
        return

    names = [f"model-{i:05d}-of-{len(written):05d}.safetensors" for i in range(1, len(written) + 1)]
    for file, name in zip(written, names, strict=True):
        file.rename(folder / name)
    index = {
        "metadata": {"total_size": size},
        "weight_map": {name: names[number - 1] for name, number in file_of.items()},
    }
    (folder / SAFE_WEIGHTS_INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n")


def _pieces(weights: Iterable[tuple[str, Tensor]], max_bytes: int) -> Iterator[dict[str, Tensor]]:
    """Weights by name, so many bytes at a time."""
    piece: dict[str, Tensor] = {}
    size = 0
    for name, tensor in weights:
        piece[name] = tensor.detach().to("cpu").contiguous()
        size += tensor.nbytes
        if size >= max_bytes:
            yield piece
            piece, size = {}, 0

    if piece:
        yield piece


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
