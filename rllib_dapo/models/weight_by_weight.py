"""Loads a model weight by weight: each one is given away as soon as it has been read.

Transformers reads, renames and fuses what the files hold, so whatever it can load, this can. What
it would hold of the model at any time is one weight, and the tensors that this one is made of:

- torch tells of every parameter that a module is given, and there it is taken;
- tensors are read with `pread`, when they are wanted: a mapped file would stay in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Where a parameter is: the module's identity, and the name it has there.
Place = tuple[int, str]


class WeightTaker(Protocol):
    """What is done to a weight that has just been read, as sharding it."""

    def take(self, weight: nn.Parameter) -> None:
        """Takes a whole weight: its tensor may be another one, or empty, afterwards.

        Args:
            weight: A parameter that its module is about to be given.
        """

    def are_equal(self, one: nn.Parameter, other: nn.Parameter) -> bool:
        """Whether two weights that were taken had the same numbers.

        Args:
            one: A weight that was taken.
            other: Another one.
        """


class TakenWeights:
    """The weights that a taker has taken, by their places."""

    def __init__(self, taker: WeightTaker) -> None:
        """Nothing is taken yet.

        Args:
            taker: Who takes them.
        """
        self._taker = taker
        self._by_place: dict[Place, nn.Parameter] = {}
        self._taken: dict[int, nn.Parameter] = {}

    def note(self, module: nn.Module, name: str, weight: nn.Parameter) -> None:
        """Torch's hook: a module is about to be given a parameter.

        Args:
            module: The module.
            name: The parameter's name there.
            weight: The parameter.
        """
        # Transformers marks what it has read. What the files lack stays as it is, to be refused.
        is_read = getattr(weight, "_is_hf_initialized", False) and not weight.is_meta
        if not is_read or id(weight) in self._taken:
            return

        self._by_place.setdefault((id(module), name), weight)
        self._taken[id(weight)] = weight
        self._taker.take(weight)

    def tied_in_vain(self, model: PreTrainedModel) -> tuple[str, str] | None:
        """Names of weights that the model shares, where its files held two different tensors.

        Transformers compares the two itself, and ties only equal ones. But by then their tensors
        have been taken away.

        Args:
            model: The loaded model.
        """
        for names in model.all_tied_weights_keys.items():
            one, other = (self._by_place.get(_place(model, name)) for name in names)
            if one is not None and other is not None and not self._taker.are_equal(one, other):
                return names
        return None


def _place(model: nn.Module, name: str) -> Place:
    owner, _, own_name = name.rpartition(".")
    return id(model.get_submodule(owner)), own_name


@contextmanager
def weights_taken(taker: WeightTaker) -> Iterator[TakenWeights]:
    """For as long as it lasts, weights that transformers loads are taken one by one.

    Args:
        taker: Who takes them.
    """
    taken = TakenWeights(taker)
    hook = register_module_parameter_registration_hook(taken.note)

    # Several threads would read ahead, as much as there is.
    before = os.environ.get("HF_DEACTIVATE_ASYNC_LOAD")
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
    try:
        yield taken
    finally:
        hook.remove()
        if before is None:
            del os.environ["HF_DEACTIVATE_ASYNC_LOAD"]
        else:
            os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = before


@contextmanager
def unread_tensors(files: list[str]) -> Iterator[dict[str, Any]]:
    """The tensors of safetensors files by name, each of which is read when it is indexed.

    Args:
        files: Paths of the files.
    """
    from safetensors import safe_open

    with ExitStack() as stack:
        tensors: dict[str, Any] = {}
        for file in files:
            opened = stack.enter_context(safe_open(file, framework="pt", backend="pread"))
            tensors |= {name: opened.get_slice(name) for name in opened.offset_keys()}
        yield tensors


def files_of_index(index: str) -> list[str]:
    """Names of the files that a model's weights are spread over.

    Args:
        index: Path of its `model.safetensors.index.json`.
    """
    with open(index) as file:
        return sorted(set(json.load(file)["weight_map"].values()))


def whole_shape(weight: Tensor) -> torch.Size:
    """The shape of a weight, whether it is sharded by DeepSpeed, which leaves none of it, or not.

    Args:
        weight: A parameter or buffer.
    """
    return torch.Size(getattr(weight, "ds_shape", weight.shape))
