"""Checkpoints of an algorithm: whole or refused."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self

import pyarrow.fs
from ray import tune
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.utils.annotations import override
from ray.rllib.utils.checkpoints import Checkpointable

from rllib_dapo.checkpoint.learners import (
    begin_saving,
    check_learners,
    restore_learners,
    save_learners,
)
from rllib_dapo.checkpoint.manifest import read_manifest
from rllib_dapo.checkpoint.remote_copy import local_folder
from rllib_dapo.checkpoint.run_description import (
    RunDescription,
    describe_run,
    write_description,
)
from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.learner.model_folder import MODULE_PATH


class WholeCheckpoints(Algorithm):
    """An `Algorithm` whose checkpoints have every Learner's part, and a list of all files.

    RLlib asks only the first Learner for its state, which under ZeRO holds a share of the
    optimizer's. Here every Learner saves its own part, and the driver writes the list of files
    last: a save that was cut short leaves no list, and restoring refuses it.

    Beside its model a checkpoint has a description of its run, so that an evaluation can repeat the
    run's own wherever the checkpoint, or the exported model, is copied to.

    Restoring opens RLlib's pickles and, under ZeRO, DeepSpeed's: restore only checkpoints that you
    trust. The Learners' own files hold tensors and plain values.
    """

    config: DAPOConfig
    _weights_version: int

    @classmethod
    @override(Algorithm)
    def from_checkpoint(
        cls, path: Any, filesystem: pyarrow.fs.FileSystem | None = None, **kwargs: Any
    ) -> Self:
        """Makes the algorithm of a checkpoint, under its settings, and restores it.

        Args:
            path: Folder, which may be relative or begin with `~`, its URI, or Tune's `Checkpoint`.
            filesystem: PyArrow file system of `path`; by default that of the URI, or the local one.
            **kwargs: RLlib's.

        Raises:
            ValueError: If the checkpoint is not whole; one line.
        """
        if isinstance(path, tune.Checkpoint):
            path, filesystem = path.path, path.filesystem

        with local_folder(path, filesystem, purpose="restore") as folder:
            read_manifest(folder)  # before anything is built
            # RLlib would read a path without a file system as a URI.
            local = pyarrow.fs.LocalFileSystem()
            return super().from_checkpoint(str(folder), filesystem=local, **kwargs)

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
        with local_folder(target, filesystem, purpose="save") as folder:
            begin_saving(folder)
            super().save_to_path(folder, state=self.get_state(for_checkpoint=True), **kwargs)
            write_description(self._description(), folder / MODULE_PATH)
            self._save_beside(folder)
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
        with local_folder(path, filesystem, purpose="restore") as folder:
            if component is not None:
                super().restore_from_path(folder, component=component, **kwargs)
                return

            manifest = check_learners(self.learner_group, folder)
            super().restore_from_path(folder, **kwargs)
            restore_learners(self.learner_group, folder, manifest)
            self._restore_beside(folder)

    def _save_beside(self, folder: Path) -> None:
        """Writes what else there is to keep."""

    def _restore_beside(self, folder: Path) -> None:
        """Reads what `_save_beside` wrote."""

    def _description(self) -> RunDescription:
        return describe_run(
            self.config,
            training_iteration=self.training_iteration,
            weights_version=self._weights_version,
        )
