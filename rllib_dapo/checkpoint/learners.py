"""Has every Learner save and restore its part of a checkpoint, and checks the whole.

RLlib saves what Learner 0 holds. Under ZeRO each Learner holds another part of the optimizer's
state, so each writes its own (`learner.rank_checkpoint`), and the driver writes the list of all
files last.

A checkpoint fits only the same number and kind of Learners: to cut sharded optimizer state anew,
our code would have to follow DeepSpeed's file formats. The exported model fits any number and kind;
what is lost is the optimizer's moments.
"""

from __future__ import annotations

from pathlib import Path

import ray
from ray.rllib.core.learner.learner_group import LearnerGroup

from rllib_dapo.checkpoint.manifest import MANIFEST, Manifest, read_manifest
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.learner.node_folder import drop_arrived, take_arrived
from rllib_dapo.learner.rank_checkpoint import RANKS, rank_file


def begin_saving(checkpoint: Path) -> None:
    """Deletes the list of files before any of them is written: the checkpoint is not whole now.

    Args:
        checkpoint: Folder of the checkpoint, which may be an older one that is replaced.
    """
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    drop_arrived(checkpoint)


def save_learners(learner_group: LearnerGroup, checkpoint: Path) -> None:
    """Has every Learner write its part, then writes the list of all files: it is whole now.

    Args:
        learner_group: The Learners, between two updates.
        checkpoint: Folder on this machine where RLlib has saved everything else.

    Raises:
        RuntimeError: If a Learner's part did not arrive here.
    """
    here = ray.util.get_node_ip_address()
    (checkpoint / RANKS).mkdir(exist_ok=True)
    saved = ask_learners(
        learner_group, lambda learner: (learner.save_rank(checkpoint, here), learner.sharding)
    )
    take_arrived(checkpoint)
    missing = [rank for rank in range(len(saved)) if not rank_file(checkpoint, rank).is_file()]
    if missing:
        raise RuntimeError(f"{checkpoint}: what Learner {missing[0]} has saved did not arrive here")

    manifest = Manifest(
        num_learners=len(saved),
        sharding=saved[0][1],
        fingerprints=[fingerprint for fingerprint, _ in saved],
        files=_sizes(checkpoint),
    )
    manifest.write(checkpoint)


def check_learners(learner_group: LearnerGroup, checkpoint: Path) -> Manifest:
    """Makes sure that a checkpoint is whole and was written by Learners such as these.

    Args:
        learner_group: The Learners that are to restore it.
        checkpoint: Folder of the checkpoint, on this machine.

    Returns:
        The checkpoint's list of files.

    Raises:
        ValueError: If it is not whole, or was written by another number or kind of Learners; one
            line with both sides and the way out.
    """
    manifest = read_manifest(checkpoint)
    shardings = ask_learners(learner_group, lambda learner: learner.sharding)
    written, there = (manifest.num_learners, manifest.sharding), (len(shardings), shardings[0])
    if written != there:
        raise ValueError(
            f"{checkpoint} was written by {_learners(*written)}, but this run has "
            f"{_learners(*there)}: set learners.num_learners and deepspeed to what they were, or "
            "start from the exported model (rllib-dapo export)"
        )
    return manifest


def restore_learners(learner_group: LearnerGroup, checkpoint: Path, manifest: Manifest) -> None:
    """Has every Learner read its part, and compares its weights with those that were saved.

    Args:
        learner_group: The Learners.
        checkpoint: Folder of the checkpoint, on this machine.
        manifest: The checkpoint's list of files; see `check_learners`.

    Raises:
        RuntimeError: If the fingerprints of the weights differ.
    """
    here = ray.util.get_node_ip_address()
    found = ask_learners(learner_group, lambda learner: learner.load_rank(checkpoint, here))
    if found != manifest.fingerprints:
        raise RuntimeError(
            f"{checkpoint}: weights were not restored: fingerprints {found}, "
            f"not {manifest.fingerprints}"
        )


def _learners(count: int, sharding: str) -> str:
    return f"{count} Learner{'s' * (count > 1)} with sharding {sharding!r}"


def _sizes(checkpoint: Path) -> dict[str, int]:
    """The size in bytes of every file below a checkpoint, by its path there."""
    return {
        str(file.relative_to(checkpoint)): file.stat().st_size
        for file in sorted(checkpoint.rglob("*"))
        if file.is_file() and not file.name.startswith(MANIFEST)
    }
