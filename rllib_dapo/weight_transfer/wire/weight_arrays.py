"""Weights as NumPy arrays, as RLlib keeps them in states."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor


def to_numpy(tensor: Tensor, dtype: torch.dtype) -> np.ndarray:
    """A copy as a NumPy array; bfloat16, which NumPy lacks, crosses as its bits in uint16.

    Args:
        tensor: A tensor on any device.
        dtype: Type that floating-point numbers are rounded to; whole numbers keep theirs.
    """
    dtype = dtype if tensor.is_floating_point() else tensor.dtype
    # Always a copy, and never two.
    tensor = tensor.detach().to("cpu", dtype, copy=True, memory_format=torch.contiguous_format)
    return (tensor.view(torch.uint16) if dtype is torch.bfloat16 else tensor).numpy()


def to_tensors(arrays: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, Tensor]]:
    """The inverse of `to_numpy`.

    Arrays from the object store are read-only and are copied: torch warns of tensors over those.
    """
    for name, array in arrays:
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        yield name, tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor
