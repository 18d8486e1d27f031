"""A Learner's weights in pieces: engines load the first while the Learner still makes the last."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from rllib_dapo.findings import one_line
from rllib_dapo.learner.weight_source import LearnerWeights
from rllib_dapo.threads import one_thread
from rllib_dapo.weight_transfer.wire.buckets import Bucket, plan_buckets
from rllib_dapo.weight_transfer.wire.buffer_pool import BufferPool

# The weights of a piece beside each other, and where each lies.
Piece = tuple[Bucket, np.ndarray]


class WeightPieces:
    """What one Learner hands out, piece by piece.

    Gathering a sharded weight is a call that all Learners make: while the first one makes its
    pieces, each of the others goes through its own weights (`take_part`).

    Attributes:
        source: The Learner's weights, as it holds them.
        fault: Why this Learner's part has failed, in one line; empty while it has not. It is kept
            as a value: RLlib would end the process of a Learner that raises.
    """

    def __init__(self, source: LearnerWeights, *, max_bytes: int) -> None:
        """Finds out what will come; all Learners must be asked at the same time.

        Args:
            source: The Learner's weights, as it holds them.
            max_bytes: Largest size of a piece; a weight that is larger is a piece of its own.
        """
        self.fault = ""
        self.source = source
        self._buckets = plan_buckets(source.metadata(), max_bytes=max_bytes)
        self._made: Iterator[Piece] = iter(())
        self._pool = BufferPool()

    def __len__(self) -> int:
        """The number of pieces; none on any Learner but the first."""
        return len(self._buckets)

    def begin(self) -> None:
        """Makes ready for the weights as they are now."""
        self.fault = ""
        self._made = iter(self)

    def __iter__(self) -> Iterator[Piece]:
        """All pieces, one after the other."""
        weights = iter(self.source)
        for bucket in self._buckets:
            buffer = self._pool.take(bucket.nbytes)
            # On one machine, engines load meanwhile, each with threads of its own.
            with one_thread():
                bucket.fill(buffer, weights)
            yield bucket, buffer.numpy()
            del buffer  # its memory serves again as soon as the piece has been stored
        deque(weights, maxlen=0)

    def make_next(self) -> Piece | str:
        """The next piece, or why there is none."""
        try:
            return self.fault or next(self._made)
        except Exception as error:
            self.fault = one_line(error)
            return self.fault

    def take_part(self) -> None:
        """Goes through all weights, for those Learners who hand out none."""
        try:
            deque(iter(self.source), maxlen=0)
        except Exception as error:
            self.fault = one_line(error)

    def end(self) -> None:
        """Lets go of what was not asked for.

        Raises:
            RuntimeError: If this Learner's part has failed; one line.
        """
        self._made = iter(())
        if self.fault:
            raise RuntimeError(self.fault)
