"""Which problems are seen in training, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLITS = ("train", "heldout")

_HASH_RANGE = 2**64


def text_key(text: str) -> str:
    """Returns what two copies of a problem have in common.

    That is its text without regard to case and white space.
    """
    return " ".join(text.casefold().split())


def split_of(key: str, heldout_fraction: float) -> str:
    """Returns the split that a problem belongs to: "train" or "heldout".

    The split depends on the problem's own text and on nothing else. So the two never overlap,
    whatever the seeds, the order, the files or the process, and a larger fraction only adds to the
    held-out problems.

    Args:
        key: What tells the problem from all others, such as `text_key` of its prompt.
        heldout_fraction: Share of all problems that is held out, 0 to 1.
    """
    # Text from a JSON file may hold lone surrogates, which plain UTF-8 refuses.
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return "heldout" if int.from_bytes(digest, "big") < heldout_fraction * _HASH_RANGE else "train"


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetOrder:
    """Visits `size` problems once in each epoch, in another order each time.

    Maps the integers 0, 1, 2, ... to problem numbers: 0..size-1 is the first epoch, size..2*size-1
    the second. The integer alone is the position, so any number of processes can share an order,
    and resuming takes one number.

    Attributes:
        size: Number of problems, at least 1.
        seed: Seed that chooses among the orders.
    """

    size: int
    seed: int = 0

    def __call__(self, position: int) -> int:
        """Returns the problem number, 0..size-1, at a position >= 0."""
        epoch, offset = divmod(position, self.size)
        return int(_permutation(self.size, self.seed, epoch)[offset])


# Seeds arrive nearly in order, so nearly all fall into the current epoch or one beside it.
@lru_cache(maxsize=8)
def _permutation(size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(size)
