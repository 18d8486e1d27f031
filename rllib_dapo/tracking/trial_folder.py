"""Where a trial's files lie beside its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.fs

if TYPE_CHECKING:
    from rllib_dapo.ray_internals import StorageContext


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A folder on some file system."""

    filesystem: pyarrow.fs.FileSystem
    folder: str


def trial_place(storage: StorageContext | None, logdir: str, name: str) -> Place:
    """A folder beside a trial's results: in Tune's storage, which may be on no local disk, or without Tune in RLlib's.

    Args:
        storage: Tune's, of the trial.
        logdir: RLlib's.
        name: The folder's.
    """
    if storage is None:
        return Place(filesystem=pyarrow.fs.LocalFileSystem(), folder=f"{logdir}/{name}")
    return Place(filesystem=storage.storage_filesystem, folder=f"{storage.trial_fs_path}/{name}")
