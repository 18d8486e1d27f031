"""Folders beside a trial's results, wherever these are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.fs

if TYPE_CHECKING:
    from rllib_dapo.ray_internals import StorageContext


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialFolder:
    """A folder of a trial.

    Attributes:
        filesystem: File system that holds it, local or remote.
        path: Its path on that file system.
    """

    filesystem: pyarrow.fs.FileSystem
    path: str


def trial_folder(storage: StorageContext | None, logdir: str, name: str) -> TrialFolder:
    """Names a folder beside a trial's results; does not create it.

    Under Tune it is in Tune's storage, which may be a bucket. Without Tune it is in the algorithm's
    own log directory.

    Args:
        storage: Tune's storage of the trial; None without Tune.
        logdir: RLlib's log directory of the algorithm, used without Tune.
        name: Name of the folder.
    """
    if storage is None:
        return TrialFolder(filesystem=pyarrow.fs.LocalFileSystem(), path=f"{logdir}/{name}")
    return TrialFolder(
        filesystem=storage.storage_filesystem, path=f"{storage.trial_fs_path}/{name}"
    )
