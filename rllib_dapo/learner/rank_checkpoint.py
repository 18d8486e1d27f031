"""Every Learner's part of a checkpoint, and the list of all that says whether a checkpoint is whole.

RLlib saves what Learner 0 holds. Under ZeRO each Learner holds another part of the optimizer's
state, so each writes its own, and the driver writes `dapo_checkpoint.json` last: a checkpoint
without it was cut short.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import torch
from ray.tune.utils.file_transfer import sync_dir_between_nodes

from rllib_dapo.learner.collectives import rank

if TYPE_CHECKING:
    from rllib_dapo.learner.learner import DAPOTorchLearner

RANKS = "ranks"
# The whole-number type for weights of so many bytes each.
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def save_rank(learner: DAPOTorchLearner, checkpoint: Path) -> int:
    """Writes one Learner's training state: the optimizer's, and its place in the schedule.

    Args:
        learner: After an update, not within one.
        checkpoint: The checkpoint's folder, on a file system of this machine.

    Returns:
        The fingerprint of its weights.
    """
    state = {
        "updates_after_warmup": learner.updates_after_warmup,
        **learner.training_state(checkpoint),
    }
    file = _rank_file(checkpoint, rank())
    file.parent.mkdir(exist_ok=True)
    torch.save(state, file)
    return learner.fingerprint()


def load_rank(learner: DAPOTorchLearner, checkpoint: Path) -> int:
    """Restores what `save_rank` wrote.

    Returns:
        The fingerprint of the weights, now restored.
    """
    state = read_rank(checkpoint, rank())
    learner.updates_after_warmup = state.pop("updates_after_warmup")
    learner.set_training_state(state, checkpoint)
    return learner.fingerprint()


def read_rank(checkpoint: Path, number: int) -> dict[str, Any]:
    """What one Learner wrote: tensors and plain values, no pickled object."""
    return torch.load(_rank_file(checkpoint, number), map_location="cpu", weights_only=True)


def _rank_file(checkpoint: Path, number: int) -> Path:
    return checkpoint / RANKS / f"rank_{number:05d}.pt"


@contextmanager
def folder_to_write(folder: Path, node_ip: str) -> Iterator[Path]:
    """The folder itself on its own node; elsewhere a temporary one that is sent there afterwards."""
    here = ray.util.get_node_ip_address()
    if here == node_ip:
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
        sync_dir_between_nodes(
            here, temporary, node_ip, str(folder), force_all=True, max_size_bytes=None
        )


@contextmanager
def folder_to_read(folder: Path, node_ip: str) -> Iterator[Path]:
    """The folder itself on its own node; elsewhere a temporary copy."""
    here = ray.util.get_node_ip_address()
    if here == node_ip:
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        sync_dir_between_nodes(
            node_ip, str(folder), here, temporary, force_all=True, max_size_bytes=None
        )
        yield Path(temporary)


def fingerprint(weights: Iterable[torch.Tensor]) -> int:
    """A number that changes with any bit of a weight: the sum of their bits, read as whole numbers.

    A sum of whole numbers is the same in any order. One of floating-point numbers is not: its last
    digits depend on the number of threads, and a checkpoint may be restored on another machine.
    """
    return sum(
        int(weight.detach().view(BITS[weight.itemsize]).sum(dtype=torch.int64))
        for weight in weights
    )
