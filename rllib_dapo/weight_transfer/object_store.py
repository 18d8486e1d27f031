"""Weights in pieces through Ray's object store: to any engine, on any machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import ray
from ray.rllib.utils.annotations import override

from rllib_dapo.weight_transfer.both_sides import ask_both_sides
from rllib_dapo.weight_transfer.transfer import Holding, TransferWay, WeightTransfer
from rllib_dapo.weight_transfer.wire.weight_pieces import PIECE_BYTES, cut_into_pieces, to_tensors

if TYPE_CHECKING:
    from rllib_dapo.learner.learner import DAPOTorchLearner
    from rllib_dapo.rollout.engine import Engine


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
        max_bytes: Size at which a piece ends, with the weight that reaches it.

    Returns:
        References to the pieces; none on any Learner but the first.
    """
    dtype = learner.policy_module.settings.dtype
    pieces = cut_into_pieces(learner.engine_weights(), dtype=dtype, max_bytes=max_bytes)
    return [ray.put(piece) for piece in pieces]


def load_pieces(pieces: Sequence[ray.ObjectRef]) -> Callable[[Engine], None]:
    """Gives an engine the weights of some pieces, one piece after the other.

    Args:
        pieces: References to the pieces that `put_pieces` has put into the object
            store. Each is fetched when the engine needs it, so that no process holds a second copy
            of the whole model.
    """

    def load(engine: Engine) -> None:
        arrays = (named_array for piece in pieces for named_array in ray.get(piece))
        engine.load_weights(to_tensors(arrays))

    return load
