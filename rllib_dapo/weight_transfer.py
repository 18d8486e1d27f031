"""The way of the weights from the Learners to the engines, in pieces through Ray's object store.

RLlib's own way, `get_state` and `sync_weights`, would hold the whole model in the driver, and one
Learner alone cannot answer under ZeRO-3, where all of them must take part in gathering a weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from torch import Tensor

from rllib_dapo.learner.learner_group import ask_learners

PIECE_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightTransfer:
    """What a transfer of weights has led to.

    Attributes:
        version: version of the Learners' weights: the number of updates they have seen.
        versions: version that each EnvRunner's engine now holds.
        engines: facts about each engine, by the index of its EnvRunner.
    """

    version: int
    versions: list[int]
    engines: dict[str, Any]

    def check_arrival(self) -> None:
        """Makes sure that every engine holds the weights that were sent.

        Raises:
            RuntimeError: If one holds another version.
        """
        if set(self.versions) - {self.version}:
            raise RuntimeError(
                f"engines hold other weights than version {self.version} after a sync: "
                f"versions {self.versions}"
            )


def transfer_weights(
    learner_group: LearnerGroup,
    env_runner_group: EnvRunnerGroup,
    *,
    local_env_runner: bool,
    timeout_seconds: float | None,
) -> WeightTransfer:
    """Hands the Learners' weights to every engine.

    Args:
        learner_group: the Learners; all of them are asked at the same time.
        env_runner_group: the EnvRunners with the engines.
        local_env_runner: whether the EnvRunner in this process has an engine.
        timeout_seconds: longest wait for the EnvRunners; None waits as long as it takes.
    """
    # The first Learner's answer has the references to all pieces; those of the others are empty.
    pieces, version = ask_learners(
        learner_group, lambda learner: (learner.weight_pieces(), learner.weights_version)
    )[0]

    loaded = env_runner_group.foreach_env_runner(
        lambda runner: (
            runner.load_weights(pieces, version),
            runner.worker_index,
            runner.engine_facts,
        ),
        local_env_runner=local_env_runner,
        timeout_seconds=timeout_seconds,
    )
    return WeightTransfer(
        version=version,
        versions=[held for held, _, _ in loaded],
        engines={str(index): facts for _, index, facts in loaded},
    )


def cut_into_pieces(
    weights: Iterable[tuple[str, Tensor]], *, dtype: torch.dtype, max_bytes: int = PIECE_BYTES
) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Cuts a model's weights into pieces, so that no process holds a second copy of all of them.

    Args:
        weights: tensors by name, which may be made one after the other.
        dtype: type of the engine's floating-point weights.
        max_bytes: size at which a piece ends, with the tensor that reaches it.

    Yields:
        Names and arrays of one piece, in the order of `weights`.
    """
    piece: list[tuple[str, np.ndarray]] = []
    for name, tensor in weights:
        piece.append((name, to_numpy(tensor, dtype)))
        if sum(array.nbytes for _, array in piece) >= max_bytes:
            yield piece
            piece = []

    if piece:
        yield piece


def to_numpy(tensor: Tensor, dtype: torch.dtype) -> np.ndarray:
    """A copy as a NumPy array; bfloat16, which NumPy lacks, crosses as its bits in uint16.

    Args:
        tensor: a tensor on any device.
        dtype: type that floating-point numbers are rounded to; whole numbers keep theirs.
    """
    tensor = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
    return (tensor.view(torch.uint16) if tensor.dtype is torch.bfloat16 else tensor).numpy().copy()


def to_tensors(arrays: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, Tensor]]:
    """The inverse of `to_numpy`.

    Arrays from the object store are read-only and are copied: torch warns of tensors over those.
    """
    for name, array in arrays:
        tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
        yield name, tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor
