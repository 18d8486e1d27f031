"""Memory for what is received, used again as soon as nobody looks at it any more."""

from __future__ import annotations

import weakref

import numpy as np
import torch
from torch import Tensor


class BufferPool:
    """Lends buffers, and takes each back when the last view of it is gone.

    vLLM keeps weights until their layer is complete, so nobody can say beforehand for how long a
    buffer is in use. New memory for each would cost about as much as receiving into it: the system
    clears it page by page.

    Args:
        keep: Number of buffers that are kept while nobody uses them.
    """

    def __init__(self, *, keep: int = 3) -> None:
        self._keep = keep
        self._free: list[np.ndarray] = []

    def take(self, nbytes: int, *, at_least: int = 0) -> Tensor:
        """A buffer of bytes that nobody else uses.

        Args:
            nbytes: Its size.
            at_least: Size that its memory should have, so that it can be used for others later.
        """
        memory = next((free for free in self._free if free.nbytes >= nbytes), None)
        if memory is None:
            memory = np.empty(max(nbytes, at_least), dtype=np.uint8)
        else:
            self._free = [free for free in self._free if free is not memory]

        # All tensors over this array share one storage, and that holds the array.
        lent = memory[:nbytes]
        weakref.finalize(lent, self._free_again, memory).atexit = False
        return torch.from_numpy(lent)

    def _free_again(self, memory: np.ndarray) -> None:
        self._free = [*self._free, memory][-self._keep :]
