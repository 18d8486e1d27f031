"""A model's weights under the names of its checkpoint: what `save_pretrained` would write.

Transformers' names in memory are not those on disk. It fuses experts and renames weights as it
loads them, and undoes that as it saves; a tied weight has two names in memory and one on disk.
Whoever reads checkpoints, as engines do, wants the names on disk.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rllib_dapo.models.weight_by_weight import whole_shape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# A layer's prefix: `model.layers.3`. What transformers fuses lies within one layer.
_LAYER = re.compile(r"^(.*?\.\d+)\.")


class CheckpointFormat:
    """Converts weights between a model in memory and its checkpoint, both ways."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Looks at a model once.

        Args:
            model: A freshly loaded model; its weights may be sharded.
        """
        from transformers.core_model_loading import revert_weight_conversion

        self._model = model
        self._revert = revert_weight_conversion
        self._not_saved = _second_names(model) | set(model._keys_to_ignore_on_save or ())

        names = {
            name: torch.empty(whole_shape(tensor), dtype=tensor.dtype, device="meta")
            for name, tensor in model.state_dict(keep_vars=True).items()
        }
        self._converts = set(revert_weight_conversion(model, names)) != set(names)

    @property
    def converts(self) -> bool:
        """Whether the checkpoint has other tensors than the model, and not just fewer names."""
        return self._converts

    def to_checkpoint(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Weights under the names, and in the shapes, that `save_pretrained` writes.

        Second names of tied weights are left out. One layer is held at a time.

        Args:
            weights: Weights by their names in `model.state_dict()`, layer by layer.

        Yields:
            Names and tensors of the checkpoint.
        """
        saved = (named for named in weights if named[0] not in self._not_saved)
        if not self._converts:
            yield from saved
            return

        for _, layer in groupby(saved, key=_layer_of):
            yield from self._revert(self._model, dict(layer)).items()

    def from_checkpoint(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `to_checkpoint`, as `from_pretrained` computes it.

        Args:
            weights: All weights by their names in a checkpoint. Second names of tied weights may be
                among them.

        Returns:
            Weights by their names in `model.state_dict()`.

        Raises:
            ValueError: If a parameter of the model has no weight among them, or the other way
                round, or a shape differs; one line.
        """
        if not self._converts:
            own = self._model.state_dict()
            _refuse_others(
                missing=set(own) - set(weights) - self._not_saved,
                unknown=set(weights) - set(own),
                reshaped={n for n in set(weights) & set(own) if weights[n].shape != own[n].shape},
            )
            return dict(weights)

        loaded, found = type(self._model).from_pretrained(
            None,
            config=copy.deepcopy(self._model.config),
            state_dict=dict(weights),
            dtype=next(self._model.parameters()).dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused here, together with all others
        )
        _refuse_others(
            missing=set(found["missing_keys"]),
            unknown=set(found["unexpected_keys"]),
            reshaped={name for name, *_ in found["mismatched_keys"]},
        )
        return dict(loaded.state_dict())


def _second_names(model: PreTrainedModel) -> set[str]:
    """Names in `model.state_dict()` of weights that stand there under another name, too."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)

    # The name that is kept is the one that others are tied to.
    tied = set(model.all_tied_weights_keys)
    return {
        name
        for shared in names.values()
        if not tied.issuperset(shared)
        for name in shared
        if len(shared) > 1 and name in tied
    }


def _layer_of(named: tuple[str, Tensor]) -> str:
    match = _LAYER.match(named[0])
    return match.group(1) if match else named[0]


def _refuse_others(*, missing: set[str], unknown: set[str], reshaped: set[str]) -> None:
    if missing or unknown or reshaped:
        raise ValueError(
            f"these weights belong to another model: missing {sorted(missing)[:3]}, unknown "
            f"{sorted(unknown)[:3]}, of another shape {sorted(reshaped)[:3]}"
        )
