"""Checkpoints of an algorithm: whole or refused."""

from __future__ import annotations

import tempfile
from typing import Any

import pyarrow.fs
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable

from rllib_dapo.checkpoint.learners import (
    begin_saving,
    check_learners,
    restore_learners,
    save_learners,
)
from rllib_dapo.checkpoint.remote_copy import folder_to_restore, folder_to_save


class WholeCheckpoints(Algorithm):
    """An `Algorithm` whose checkpoints have every Learner's part, and a list of all files.

    RLlib asks only the first Learner for its state, which under ZeRO holds a share of the
    optimizer's. Here every Learner saves its own part, and the driver writes the list of files
    last: a save that was cut short leaves no list, and restoring refuses it.

    Restoring opens RLlib's pickles and, under ZeRO, DeepSpeed's: restore only checkpoints that you
    trust. The Learners' own files hold tensors and plain values.
    """

    @override(Checkpointable)
    def save_to_path(
        self,
        path: Any = None,
        *,
        state: Any = None,
        filesystem: pyarrow.fs.FileSystem | None = None,
        **kwargs: Any,
    ) -> str:
        """Saves RLlib's checkpoint, every Learner's part and, last, the list of all its files.

        Args:
            path: Folder or its URI; by default a new temporary folder.
            state: Unused, since every Learner saves its own.
            filesystem: PyArrow file system of `path`; by default that of the URI, or the local one.
            **kwargs: RLlib's.

        Returns:
            The folder or its URI.
        """
        target = tempfile.mkdtemp() if path is None else path
        with folder_to_save(target, filesystem) as folder:
            begin_saving(folder)
            super().save_to_path(folder, state=self.get_state(for_checkpoint=True), **kwargs)
            save_learners(self.learner_group, folder)
        return str(target)

    @override(Algorithm)
    def restore_from_path(
        self,
        path: Any,
        *,
        component: str | None = None,
        filesystem: pyarrow.fs.FileSystem | None = None,
        **kwargs: Any,
    ) -> None:
        """Restores every component and every Learner's part.

        Args:
            path: Folder or its URI.
            component: RLlib's name of the only component to restore; by default all are restored.
            filesystem: PyArrow file system of `path`; by default that of the URI, or the local one.
            **kwargs: RLlib's.

        Raises:
            ValueError: If the checkpoint is not whole, or was written by another number or kind of
                Learners.
            RuntimeError: If a Learner's weights are not those that were saved.
        """
        with folder_to_restore(path, filesystem) as folder:
            if component is not None:
                super().restore_from_path(folder, component=component, **kwargs)
                return

            manifest = check_learners(self.learner_group, folder)
            super().restore_from_path(folder, **kwargs)
            restore_learners(self.learner_group, folder, manifest)
