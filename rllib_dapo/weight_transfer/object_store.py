"""Weights in pieces through Ray's object store: to any engine, on any machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.exceptions import RayError
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_dapo.learner.weight_source import LearnerWeights
from rllib_dapo.ray_internals import learner_actors
from rllib_dapo.weight_transfer.both_sides import ask_both_sides
from rllib_dapo.weight_transfer.faults import LEARNERS, name_of
from rllib_dapo.weight_transfer.pieces import WeightPieces
from rllib_dapo.weight_transfer.transfer import Holding, TransferWay, WeightTransfer
from rllib_dapo.weight_transfer.wire.buffer_pool import BufferPool
from rllib_dapo.weight_transfer.wire.transfer_group import PeerLostError

if TYPE_CHECKING:
    from rllib_dapo.learner.learner import DAPOTorchLearner
    from rllib_dapo.rollout.engine import Engine

PIECE_BYTES = 64 * 2**20

# Of this process, for the engine that it holds.
_POOL = BufferPool()


class ObjectStoreWay(TransferWay):
    """The first Learner puts pieces into the store, and every engine fetches them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See `TransferWay`."""
        super().__init__(*args, **kwargs)
        self._knows_pieces = False  # whether the Learners know what their pieces will be

    @override(TransferWay)
    def transfer(self) -> WeightTransfer:
        """See `TransferWay.transfer`."""
        started = time.monotonic()
        version, pieces = self._pieces()
        members = self._members()

        def doing() -> Mapping[str, str]:
            made = len(ray.wait(pieces, num_returns=len(pieces), timeout=0)[0])
            if made == len(pieces):
                return {}
            waiting = f"waiting for piece {made + 1} of {len(pieces)}"
            return {name_of(runner): waiting for runner in members} | {
                LEARNERS: f"making piece {made + 1} of {len(pieces)}"
            }

        answers = ask_both_sides(
            self._learner_group,
            self._env_runner_group,
            # Each Learner comes to this when it has made all of its pieces.
            of_learner=end_pieces,
            of_runner=lambda runner: Holding.after(runner, load_pieces(pieces), version),
            runners=members,
            timeout_seconds=self._time_left(started),
            timeout_setting=self._timeout_seconds,
            what=f"the transfer of version {version} of the weights",
            deaths_end_it=not self._tolerates_deaths,
            doing=doing,
        )
        return self._outcome(version, answers.runners)

    def _pieces(self) -> tuple[int, list[ray.ObjectRef]]:
        """Version of the weights, and references to all pieces, of which most are yet to be made.

        Engines fetch and load a piece while the first Learner makes the next one. It waits for
        nobody.
        """
        bucket_bytes, is_known = self._bucket_bytes, self._knows_pieces
        is_local = self._learner_group.is_local

        def begin(learner: DAPOTorchLearner) -> tuple[int, int, list[ray.ObjectRef]]:
            pieces = begin_pieces(learner, max_bytes=bucket_bytes, is_known=is_known)
            return learner.weights_version, len(pieces), put(pieces) if is_local else []

        answers = ask_both_sides(
            self._learner_group,
            self._env_runner_group,
            of_learner=begin,
            runners=[],
            timeout_seconds=self._timeout_seconds,
            what="the preparation of a transfer of weights",
        )
        self._knows_pieces = True
        version, count, stored = answers.learners[0]
        if is_local:
            return version, stored  # the driver itself: nobody would load while it makes them

        # An actor does one thing after the other, in the order in which it was asked.
        first, *others = learner_actors(self._learner_group)
        for actor in others:
            actor.apply.remote(lambda learner: learner.weight_pieces.take_part())
        return version, [
            first.apply.remote(lambda learner: learner.weight_pieces.make_next())
            for _ in range(count)
        ]


def begin_pieces(
    learner: DAPOTorchLearner, *, max_bytes: int = PIECE_BYTES, is_known: bool = False
) -> WeightPieces:
    """Makes a Learner ready to hand out its weights; all Learners must be asked at the same time.

    Args:
        learner: The Learner.
        max_bytes: Largest size of a piece; a weight that is larger is a piece of its own.
        is_known: Whether the pieces are those of the last time, with other numbers in them.
    """

    def weights() -> Iterator[tuple[str, Tensor]]:
        return learner.engine_weights()

    if not is_known or learner.weight_pieces is None:
        source = LearnerWeights(
            weights, dtype=learner.policy_module.settings.dtype, converted=False
        )
        learner.weight_pieces = WeightPieces(source, max_bytes=max_bytes)
    learner.weight_pieces.begin()
    return learner.weight_pieces


def end_pieces(learner: DAPOTorchLearner) -> None:
    """Ends a Learner's part in a transfer.

    Raises:
        RuntimeError: If it has failed; one line.
    """
    if learner.weight_pieces is not None:
        learner.weight_pieces.end()


def put_pieces(learner: DAPOTorchLearner, *, max_bytes: int = PIECE_BYTES) -> list[ray.ObjectRef]:
    """Puts a Learner's weights, as an engine wants them, into the object store piece by piece.

    All Learners must be asked at the same time.

    Args:
        learner: The Learner.
        max_bytes: Largest size of a piece; a weight that is larger is a piece of its own.

    Returns:
        References to the pieces; none on any Learner but the first.
    """
    return put(begin_pieces(learner, max_bytes=max_bytes))


def put(pieces: WeightPieces) -> list[ray.ObjectRef]:
    """Makes all pieces and puts each into the object store; the references to them."""
    return [ray.put(piece) for piece in pieces]


def fetched(
    pieces: Iterable[ray.ObjectRef], pool: BufferPool | None = None
) -> Iterator[tuple[str, Tensor]]:
    """The weights of some pieces. Each piece is fetched when its first weight is asked for.

    Args:
        pieces: References to what `WeightPieces` makes.
        pool: Where the memory comes from; by default it is new.

    Raises:
        PeerLostError: If the Learner does not make a piece.
    """
    pool = pool or BufferPool()
    for reference in pieces:
        try:
            piece = ray.get(reference)
        except RayError as error:
            raise PeerLostError(f"the Learner made no piece, {type(error).__name__}") from error
        if isinstance(piece, str):
            raise PeerLostError(piece)

        bucket, stored = piece
        # What lies in the store cannot be written to, which some model's loading may want to do.
        buffer = pool.take(bucket.nbytes)
        np.copyto(buffer.numpy(), stored)
        del piece, stored
        yield from bucket.views(buffer)
        del buffer


def load_pieces(pieces: Sequence[ray.ObjectRef]) -> Callable[[Engine], None]:
    """Gives an engine the weights of some pieces, one piece after the other.

    Args:
        pieces: References to what `WeightPieces` makes. No process holds a second copy of the whole
            model.
    """

    def load(engine: Engine) -> None:
        engine.load_weights(fetched(pieces, _POOL))

    return load
