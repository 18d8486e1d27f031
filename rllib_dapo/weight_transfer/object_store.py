"""Weights in pieces through Ray's object store: to any engine, on any machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import ray
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_dapo.threads import one_thread
from rllib_dapo.weight_transfer.both_sides import ask_both_sides
from rllib_dapo.weight_transfer.transfer import Holding, TransferWay, WeightTransfer
from rllib_dapo.weight_transfer.wire.buckets import packed
from rllib_dapo.weight_transfer.wire.buffer_pool import BufferPool

if TYPE_CHECKING:
    from rllib_dapo.learner.learner import DAPOTorchLearner
    from rllib_dapo.rollout.engine import Engine

PIECE_BYTES = 64 * 2**20

# Of this process, for the Learner or the engine that it holds.
_POOL = BufferPool()


class ObjectStoreWay(TransferWay):
    """The first Learner puts pieces into the store, and every engine fetches them."""

    @override(TransferWay)
    def transfer(self) -> WeightTransfer:
        """See `TransferWay.transfer`."""
        started = time.monotonic()
        bucket_bytes = self._bucket_bytes

        def put(learner: DAPOTorchLearner) -> tuple[list[ray.ObjectRef], int]:
            return put_pieces(learner, max_bytes=bucket_bytes), learner.weights_version

        answers = ask_both_sides(
            self._learner_group,
            self._env_runner_group,
            of_learner=put,
            runners=[],
            timeout_seconds=self._timeout_seconds,
            what="handing out the weights",
        )
        # The first Learner's answer has the references to all pieces; those of the others are
        # empty.
        pieces, version = answers.learners[0]

        left = None
        if self._timeout_seconds is not None:
            left = max(0.0, self._timeout_seconds - (time.monotonic() - started))
        answers = ask_both_sides(
            self._learner_group,
            self._env_runner_group,
            of_learner=None,
            of_runner=lambda runner: Holding.after(runner, load_pieces(pieces), version),
            runners=self._members(),
            timeout_seconds=left,
            timeout_setting=self._timeout_seconds,
            what=f"the transfer of version {version} of the weights",
            deaths_end_it=not self._tolerates_deaths,
        )
        return self._outcome(version, answers.runners)


def put_pieces(learner: DAPOTorchLearner, *, max_bytes: int = PIECE_BYTES) -> list[ray.ObjectRef]:
    """Puts a Learner's weights, as an engine wants them, into the object store piece by piece.

    All Learners must be asked at the same time.

    Args:
        learner: The Learner.
        max_bytes: Largest size of a piece; a weight that is larger is a piece of its own.

    Returns:
        References to the pieces; none on any Learner but the first.
    """
    dtype = learner.policy_module.settings.dtype
    buckets = packed(learner.engine_weights(), dtype=dtype, max_bytes=max_bytes, pool=_POOL)
    pieces: list[Future[ray.ObjectRef]] = []
    # One thread packs while another one puts what was packed before.
    with ThreadPoolExecutor(max_workers=1) as putting, one_thread():
        for bucket, buffer in buckets:
            if pieces:
                pieces[-1].result()  # no more than two pieces are held beside the model
            pieces.append(putting.submit(ray.put, (bucket, buffer.numpy())))
            del buffer
    return [piece.result() for piece in pieces]


def fetched(
    pieces: Iterable[ray.ObjectRef], pool: BufferPool | None = None
) -> Iterator[tuple[str, Tensor]]:
    """The weights of some pieces. Each piece is fetched when its first weight is asked for.

    Args:
        pieces: References that `put_pieces` returned.
        pool: Where the memory comes from; by default it is new.
    """
    pool = pool or BufferPool()
    for piece in pieces:
        bucket, stored = ray.get(piece)
        # What lies in the store cannot be written to, which some model's loading may want to do.
        buffer = pool.take(bucket.nbytes)
        np.copyto(buffer.numpy(), stored)
        del stored
        yield from bucket.views(buffer)
        del buffer


def load_pieces(pieces: Sequence[ray.ObjectRef]) -> Callable[[Engine], None]:
    """Gives an engine the weights of some pieces, one piece after the other.

    Args:
        pieces: References that `put_pieces` returned. No process holds a second copy of the whole
            model.
    """

    def load(engine: Engine) -> None:
        engine.load_weights(fetched(pieces, _POOL))

    return load
