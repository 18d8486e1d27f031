"""Buckets: many weights beside each other in one buffer of bytes, of bounded size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Weights begin at multiples of this many bytes: a view of another type needs its own alignment, and
# copies between aligned places are quicker.
ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class WeightMeta:
    """What a weight is, without its values; the form of vLLM's `ParamMeta`.

    Attributes:
        name: Name in a Hugging Face checkpoint.
        dtype: Type in which it travels.
        shape: Its whole shape.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def metas_of(
    names: Sequence[str], dtype_names: Sequence[str], shapes: Sequence[Sequence[int]]
) -> list[WeightMeta]:
    """The weights that vLLM's form of a message about them describes.

    Args:
        names: Names in a Hugging Face checkpoint.
        dtype_names: Types by their names in torch, such as `bfloat16`.
        shapes: Their shapes.
    """
    return [
        WeightMeta(name, getattr(torch, dtype), tuple(shape))
        for name, dtype, shape in zip(names, dtype_names, shapes, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Which weights share a buffer, and where.

    Attributes:
        weights: The weights, in the order in which they travel.
        offsets: The byte at which each begins.
        nbytes: Size of the buffer.
    """

    weights: tuple[WeightMeta, ...]
    offsets: tuple[int, ...]
    nbytes: int

    def views(self, buffer: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The weights as views of a buffer of at least `nbytes` bytes, by name."""
        for weight, offset in zip(self.weights, self.offsets, strict=True):
            if not weight.nbytes:  # torch takes no view of another type of nothing
                yield weight.name, torch.empty(weight.shape, dtype=weight.dtype)
                continue
            part = buffer[offset : offset + weight.nbytes]
            yield weight.name, part.view(weight.dtype).view(weight.shape)

    def fill(self, buffer: Tensor, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Copies weights into a buffer; numbers are converted on the way.

        Args:
            buffer: `[nbytes]` or longer, of bytes.
            weights: The weights of this bucket, perhaps with more behind them.

        Raises:
            ValueError: If others come than were announced; one line.
        """
        found = iter(weights)
        for name, view in self.views(buffer):
            given, tensor = next(found, ("nothing", None))
            if given != name or tensor is None or tensor.shape != view.shape:
                shape = "" if tensor is None else f" {tuple(tensor.shape)}"
                raise ValueError(
                    f"the Learner's weights have changed since they were announced: {given}{shape} "
                    f"comes where {name} {tuple(view.shape)} is due"
                )
            view.copy_(tensor)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def plan_buckets(weights: Sequence[WeightMeta], *, max_bytes: int) -> list[Bucket]:
    """Cuts weights into buckets, the same on both sides of a transfer.

    Args:
        weights: The weights, in the order in which they travel.
        max_bytes: Largest size of a bucket. A weight that is larger has one of its own.
    """
    buckets: list[Bucket] = []
    held: list[WeightMeta] = []
    offsets: list[int] = []
    end = 0

    def close() -> None:
        nonlocal held, offsets, end
        if held:
            buckets.append(Bucket(tuple(held), tuple(offsets), end))
        held, offsets, end = [], [], 0

    for weight in weights:
        start = _aligned(end)
        if held and start + weight.nbytes > max_bytes:
            close()
            start = 0
        held.append(weight)
        offsets.append(start)
        end = start + weight.nbytes

    close()
    return buckets
