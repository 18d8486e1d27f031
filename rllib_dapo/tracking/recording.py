"""Recordings: the groups that a run trained on, in one Parquet file for each training step.

A file has one row for each response. It is self-contained: its metadata holds every setting of the
run that the update depends on, so `replay` can repeat the update or make another one. Only the
groups that were trained on are recorded, not all that were sampled: an update needs no others.
Names and values are plain; no pickle is written or read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from rllib_dapo.config.setting import own_settings
from rllib_dapo.core.types import PromptGroup
from rllib_dapo.ray_internals import trial_storage
from rllib_dapo.tracking.group_table import from_table, to_table
from rllib_dapo.tracking.trial_folder import TrialFolder, trial_folder

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm

    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.ray_internals import StorageContext
    from rllib_dapo.rollout.rollout_result import SampledGroup

FOLDER = "recording"
SETTINGS_KEY = b"rllib_dapo.settings"


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedStep:
    """The recording of one training step.

    Attributes:
        file: Path of the Parquet file.
        number: Number of weight updates before this step.
        settings: Settings of the run, by dotted name.
    """

    file: Path
    number: int
    settings: dict[str, Any]

    def groups(self) -> list[PromptGroup]:
        """Reads the groups, in the order in which they were accepted."""
        return from_table(pq.read_table(self.file))


def recording_folder(storage: StorageContext | None, logdir: str) -> TrialFolder:
    """Names the folder `recording` of a trial, see `trial_folder`."""
    return trial_folder(storage, logdir, FOLDER)


def record_step(algorithm: Algorithm, sampled: Sequence[SampledGroup], *, number: int) -> None:
    """Writes the groups that an algorithm is about to train on, beside its other results.

    Args:
        algorithm: Algorithm built by Tune or by hand.
        sampled: The groups, which are fetched.
        number: See `write_step`.
    """
    folder = recording_folder(trial_storage(algorithm), algorithm.logdir)
    write_step(folder, number, [group.group() for group in sampled], algorithm.config)


def write_step(
    folder: TrialFolder, number: int, groups: Sequence[PromptGroup], config: DAPOConfig
) -> None:
    """Writes the groups of one training step.

    Args:
        folder: Folder from `recording_folder`; created if absent.
        number: Number of weight updates before this step. It names the file, so a step that is
            repeated after a resume replaces its first recording.
        groups: Groups that the step trains on, in order.
        config: Configuration of the algorithm.
    """
    settings = json.dumps(recorded_settings(config)).encode()
    table = to_table(groups, number=number, metadata={SETTINGS_KEY: settings})

    folder.filesystem.create_dir(folder.path, recursive=True)
    pq.write_table(table, f"{folder.path}/step_{number:06d}.parquet", filesystem=folder.filesystem)


def read_recording(path: Path) -> list[RecordedStep]:
    """Finds a recording and reads the settings of its steps; their groups are read when asked for.

    Args:
        path: The folder of the files, the folder of a trial that has one, or the folder of a run
            with a single recorded trial.

    Returns:
        The steps, in order.

    Raises:
        ValueError: If there is no recording or more than one, or if a file is not a recorded step.
            The message is one line.
    """
    patterns = ("", f"{FOLDER}/", f"*/{FOLDER}/")
    found = sorted(
        {file.parent for pattern in patterns for file in path.glob(f"{pattern}step_*.parquet")}
    )

    if not found:
        raise ValueError(
            f"{path}: no recording found: train with --set rollout.record_groups=true, and name "
            "the run's folder"
        )
    if len(found) > 1:
        raise ValueError(
            f"{path}: {len(found)} recordings found: name one of them, such as {found[0]}"
        )

    return [_read_step(file) for file in sorted(found[0].glob("step_*.parquet"))]


def recorded_settings(config: DAPOConfig) -> dict[str, Any]:
    """Every setting that an update depends on.

    Args:
        config: Configuration whose search spaces are resolved.

    Returns:
        Dotted names to values that JSON can represent.
    """
    settings = own_settings(type(config)).values()
    return {s.dotted: _plain(getattr(config, s.attribute)) for s in settings}


def _plain(value: Any) -> Any:
    """A value as JSON can represent it; a function by its module and name."""
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    return json.loads(json.dumps(value, default=str))


def _read_step(file: Path) -> RecordedStep:
    metadata = pq.read_schema(file).metadata or {}
    if SETTINGS_KEY not in metadata:
        raise ValueError(f"{file} is not a recorded training step: it has no settings")

    return RecordedStep(
        file=file,
        number=int(file.stem.rpartition("_")[2]),
        settings=json.loads(metadata[SETTINGS_KEY]),
    )
