"""Every Learner's part of a checkpoint, and the list of all that says whether a checkpoint is whole.

RLlib saves what Learner 0 holds. Under ZeRO each Learner holds another part of the optimizer's state, so each writes
its own, and the driver writes `dapo_checkpoint.json` last: a checkpoint without it was cut short.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import ray
import torch
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.tune.utils.file_transfer import sync_dir_between_nodes

from rllib_dapo.learner.collectives import rank

if TYPE_CHECKING:
    from rllib_dapo.learner.learner import DAPOTorchLearner

T = TypeVar("T")
MANIFEST = "dapo_checkpoint.json"
RANKS = "ranks"
# The whole-number type for weights of so many bytes each.
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a whole checkpoint holds.

    Attributes:
        num_learners: How many Learners wrote it (a local one counts as one).
        sharding: `"none"`, or which ZeRO stage.
        fingerprints: By rank, a number that depends on every weight a Learner holds; see `fingerprint`.
        files: Path below the checkpoint to size in bytes.
    """

    num_learners: int
    sharding: str
    fingerprints: list[int]
    files: dict[str, int]

    def write(self, checkpoint: Path) -> None:
        """Writes the file whose presence says that all others are there."""
        partial = checkpoint / f"{MANIFEST}.partial"
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n")
        partial.replace(checkpoint / MANIFEST)


def read_manifest(checkpoint: Path) -> Manifest:
    """Reads it and compares it with what is on disk.

    Raises:
        ValueError: If the checkpoint is not whole; one line.
    """
    try:
        manifest = Manifest(**json.loads((checkpoint / MANIFEST).read_text()))
    except FileNotFoundError:
        raise ValueError(
            f"{checkpoint} is no whole checkpoint (no {MANIFEST}): saving it was cut short; take an older one"
        ) from None
    for name, size in manifest.files.items():
        file = checkpoint / name
        there = file.stat().st_size if file.is_file() else None
        if there != size:
            found = "is missing" if there is None else f"has {there} bytes instead of {size}"
            raise ValueError(f"{checkpoint} is damaged: {name} {found}; take an older one")
    return manifest


def begin_saving(checkpoint: Path) -> None:
    """Takes the list of files away before any of them is written again: from here on a checkpoint is not whole."""
    (checkpoint / MANIFEST).unlink(missing_ok=True)


def save_learners(learner_group: LearnerGroup, checkpoint: Path) -> None:
    """Has every Learner write its part, then writes the list of all files: the checkpoint is whole from then on.

    Args:
        learner_group: After an update, not within one.
        checkpoint: Where RLlib has saved everything else, on this machine.
    """
    here = ray.util.get_node_ip_address()
    (checkpoint / RANKS).mkdir(exist_ok=True)
    saved = ask_learners(learner_group, lambda learner: (learner.save_rank(checkpoint, here), learner.sharding))
    manifest = Manifest(
        num_learners=len(saved),
        sharding=saved[0][1],
        fingerprints=[fingerprint for fingerprint, _ in saved],
        files=_sizes(checkpoint),
    )
    manifest.write(checkpoint)


def check_learners(learner_group: LearnerGroup, checkpoint: Path) -> Manifest:
    """Makes sure that a checkpoint is whole and was written by Learners such as these.

    Raises:
        ValueError: If it is not; one line with both sides and the way out.
    """
    manifest = read_manifest(checkpoint)
    shardings = ask_learners(learner_group, lambda learner: learner.sharding)
    written, there = (manifest.num_learners, manifest.sharding), (len(shardings), shardings[0])
    if written != there:
        raise ValueError(
            f"{checkpoint} was written by {_learners(*written)}, but this run has {_learners(*there)}: set "
            "learners.num_learners and deepspeed to what they were, or start from the exported model "
            "(rllib-dapo export)"
        )
    return manifest


def restore_learners(learner_group: LearnerGroup, checkpoint: Path, manifest: Manifest) -> None:
    """Has every Learner read its part, and compares the weights that each then holds with those that were saved.

    Raises:
        RuntimeError: If they differ.
    """
    here = ray.util.get_node_ip_address()
    found = ask_learners(learner_group, lambda learner: learner.load_rank(checkpoint, here))
    if found != manifest.fingerprints:
        raise RuntimeError(
            f"{checkpoint}: weights were not restored: fingerprints {found}, not {manifest.fingerprints}"
        )


def ask_learners(learner_group: LearnerGroup, question: Callable[[DAPOTorchLearner], T]) -> list[T]:
    """Every Learner's answer, by rank; the first exception is raised here, where RLlib would pass over it."""
    results = list(learner_group.foreach_learner(lambda learner: (rank(), question(learner))))
    for result in results:
        if not result.ok:
            raise result.get()
    return [answer for _, answer in sorted((result.get() for result in results), key=lambda pair: pair[0])]


def _learners(count: int, sharding: str) -> str:
    return f"{count} Learner{'s' * (count > 1)} with sharding {sharding!r}"


def save_rank(learner: DAPOTorchLearner, checkpoint: Path) -> int:
    """Writes one Learner's training state: the optimizer's, and its place in the schedule.

    Args:
        learner: After an update, not within one.
        checkpoint: The checkpoint's folder, on a file system of this machine.

    Returns:
        The fingerprint of its weights.
    """
    state = {"updates_after_warmup": learner.updates_after_warmup, **learner.training_state(checkpoint)}
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
        sync_dir_between_nodes(here, temporary, node_ip, str(folder), force_all=True, max_size_bytes=None)


@contextmanager
def folder_to_read(folder: Path, node_ip: str) -> Iterator[Path]:
    """The folder itself on its own node; elsewhere a temporary copy."""
    here = ray.util.get_node_ip_address()
    if here == node_ip:
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        sync_dir_between_nodes(node_ip, str(folder), here, temporary, force_all=True, max_size_bytes=None)
        yield Path(temporary)


def _sizes(checkpoint: Path) -> dict[str, int]:
    """Every file below a checkpoint, by its path there."""
    return {
        str(file.relative_to(checkpoint)): file.stat().st_size
        for file in sorted(checkpoint.rglob("*"))
        if file.is_file() and not file.name.startswith(MANIFEST)
    }


def fingerprint(weights: Iterable[torch.Tensor]) -> int:
    """A number that changes with any bit of a weight: the sum of their bits, read as whole numbers.

    A sum of whole numbers is the same in any order. One of floating-point numbers is not: its last digits depend on the
    number of threads, and a checkpoint may be restored on another machine.
    """
    return sum(int(weight.detach().view(BITS[weight.itemsize]).sum(dtype=torch.int64)) for weight in weights)
