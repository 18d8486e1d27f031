"""The form in which weights travel: pieces of bounded size, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

PIECE_BYTES = 256 * 2**20


def cut_into_pieces(
    weights: Iterable[tuple[str, Tensor]], *, dtype: torch.dtype, max_bytes: int = PIECE_BYTES
) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Cuts a model's weights into pieces, so that no process holds a second copy of all of them.

    Args:
        weights: Tensors by name, which may be made one after the other.
        dtype: Type of the engine's floating-point weights.
        max_bytes: Size at which a piece ends, with the tensor that reaches it.

    Yields:
        Names and arrays of one piece, in the order of `weights`.
    """
    piece: list[tuple[str, np.ndarray]] = []
    for name, tensor in weights:
        piece.append((name, to_numpy(tensor, dtype)))
        if sum(array.nbytes for _, array in piece) >= max_bytes:
            yield piece
            piece = []

    if piece:
        yield piece


def to_numpy(tensor: Tensor, dtype: torch.dtype) -> np.ndarray:
    """A copy as a NumPy array; bfloat16, which NumPy lacks, crosses as its bits in uint16.

    Args:
        tensor: A tensor on any device.
        dtype: Type that floating-point numbers are rounded to; whole numbers keep theirs.
    """
    tensor = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
    return (tensor.view(torch.uint16) if tensor.dtype is torch.bfloat16 else tensor).numpy().copy()


def to_tensors(arrays: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, Tensor]]:
    """The inverse of `to_numpy`.

    Arrays from the object store are read-only and are copied: torch warns of tensors over those.
    """
    for name, array in arrays:
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        yield name, tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor
