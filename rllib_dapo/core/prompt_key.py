"""Numbers that are made from a prompt: the same in every process and in every run."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def prompt_key(prompt_ids: NDArray[np.int32]) -> int:
    """Returns a number of 64 bits for a prompt; equal tokens have equal numbers.

    Among a million prompts, two have the same number with a probability of 3e-8.

    Args:
        prompt_ids: `[P]` token ids.
    """
    tokens = prompt_ids.astype("<i4").tobytes()
    return int.from_bytes(hashlib.blake2b(tokens, digest_size=8).digest(), "little")


def uniform_draw(key: int, seed: int) -> float:
    """Returns a number in [0, 1) for a prompt's key and a seed, as if drawn evenly.

    Args:
        key: Of `prompt_key`.
        seed: Any whole number from 0 on.
    """
    text = f"{key} {seed}".encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return (number >> 11) / 2**53
