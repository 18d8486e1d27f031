"""A Gymnasium space of free text, and of conversations."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import gymnasium

from rllib_dapo.envs.messages import as_conversation

if TYPE_CHECKING:
    import numpy as np

_PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "
_LONGEST_SAMPLE = 32


class TextSpace(gymnasium.spaces.Text):
    """Text of any Unicode characters, from none up to `max_length` of them; or messages.

    A list of messages (see `envs.messages`) is in the space if their contents together are not too
    long.

    Gymnasium's own `Text` keeps its character set: the default one refuses "x = 1/2", and one
    with every Unicode character pickles to 46 MB. This space checks type and length only and
    pickles to a few hundred bytes. It stays a `Text`, so Gymnasium's checks and vector
    environments know what to do with it.

    Args:
        max_length: Most characters that a text may have.
        seed: Seed of `sample`.

    Raises:
        ValueError: If `max_length` is less than 1.
    """

    def __init__(self, max_length: int, *, seed: int | np.random.Generator | None = None) -> None:
        if max_length < 1:
            raise ValueError(
                f"max_length={max_length!r}: a text space needs room for at least one character"
            )
        super().__init__(max_length, min_length=0, charset=_PRINTABLE, seed=seed)

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """Returns a short printable ASCII text of at most 32 characters.

        Masks mean what they mean for `Text`.
        """
        if mask is not None or probability is not None:
            return super().sample(mask, probability)
        length = self.np_random.integers(min(self.max_length, _LONGEST_SAMPLE) + 1)
        return "".join(_PRINTABLE[i] for i in self.np_random.integers(len(_PRINTABLE), size=length))

    def contains(self, x: Any) -> bool:
        """Whether `x` is a text, or messages, that is not too long, whatever its characters."""
        if isinstance(x, str):
            return len(x) <= self.max_length
        try:
            conversation = as_conversation(x)
        except ValueError:
            return False
        return sum(len(message.content) for message in conversation) <= self.max_length

    @property
    def is_np_flattenable(self) -> bool:
        """Never: arbitrary characters have no index to flatten to."""
        return False

    def __repr__(self) -> str:
        return f"TextSpace({self.max_length})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextSpace) and self.max_length == other.max_length

    def __hash__(self) -> int:
        return hash((TextSpace, self.max_length))

    def __reduce__(self) -> tuple[Any, ...]:
        # The character tables are not sent but made again; the generator keeps its state.
        return TextSpace, (self.max_length,), {"_np_random": self._np_random}
