"""The way of the weights from the Learners to the engines: in pieces, through Ray's object store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

PIECE_BYTES = 256 * 2**20


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
