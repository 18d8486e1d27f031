"""The list of a checkpoint's files, written last: a checkpoint without it was cut short."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

MANIFEST = "dapo_checkpoint.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a whole checkpoint holds.

    Attributes:
        num_learners: Number of Learners that wrote it; a local one counts as one.
        sharding: `"none"`, or the ZeRO stage.
        fingerprints: By rank, a number that depends on every weight a Learner holds; see
            `learner.rank_checkpoint.fingerprint`.
        files: Size in bytes of every file, by its path below the checkpoint.
    """

    num_learners: int
    sharding: str
    fingerprints: list[int]
    files: dict[str, int]

    def write(self, checkpoint: Path) -> None:
        """Writes the file whose presence says that all others are there.

        Args:
            checkpoint: Folder of the checkpoint.
        """
        partial = checkpoint / f"{MANIFEST}.partial"
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n")
        partial.replace(checkpoint / MANIFEST)


def read_manifest(checkpoint: Path) -> Manifest:
    """Reads the list of files and compares it with what is on disk.

    Args:
        checkpoint: Folder of the checkpoint, on this machine.

    Raises:
        ValueError: If the checkpoint is not whole; one line.
    """
    try:
        manifest = Manifest(**json.loads((checkpoint / MANIFEST).read_text()))
    except FileNotFoundError:
        if not checkpoint.is_dir():
            raise ValueError(f"{checkpoint}: there is no such checkpoint") from None
        raise ValueError(
            f"{checkpoint} is not a whole checkpoint (no {MANIFEST}): saving it was cut short; "
            "take an older one"
        ) from None

    for name, size in manifest.files.items():
        file = checkpoint / name
        there = file.stat().st_size if file.is_file() else None
        if there != size:
            found = "is missing" if there is None else f"has {there} bytes instead of {size}"
            raise ValueError(f"{checkpoint} is damaged: {name} {found}; take an older one")
    return manifest
