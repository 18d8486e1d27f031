"""A run's folder as Ray Tune reads it back, finished or not, and what lies beside the results in it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import pyarrow.fs
from ray.air.constants import TRAINING_ITERATION
from ray.tune import ExperimentAnalysis, ResultGrid
from ray.tune.utils import flatten_dict

from rllib_dapo.findings import SettingsError
from rllib_dapo.reporting.report_panels import evaluation
from rllib_dapo.tracking.sample_record import FOLDER, SUFFIX, Sample, from_jsonl

if TYPE_CHECKING:
    from ray import tune

Status = Literal["finished", "unfinished", "failed", "not started"]
DEFAULT_METRIC = "env_runners/accuracy"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A checkpoint's folder, and the iteration it was made after, where that is known."""

    path: str
    iteration: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One trial.

    Attributes:
        trial_id: Tune's.
        name: Its folder's.
        folder: In the run's storage.
        status: Whether it ended by its `stop`, was left or is still at work, raised, or has no
            result yet.
        error: The last line of what it failed with.
        config: Attribute names with slashes, and values.
        frame: One row an iteration.
        checkpoints: That are kept, oldest first.
        samples: Its tables of sampled responses, in order.
    """

    trial_id: str
    name: str
    folder: str
    status: Status
    error: str
    config: Mapping[str, Any]
    frame: pd.DataFrame
    checkpoints: tuple[Checkpoint, ...]
    samples: tuple[Sample, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run of one trial or many.

    Attributes:
        name: Its folder's.
        folder: Path or URI.
        is_local: Whether this machine sees the folder as a folder.
        metric: By which trials are compared.
        mode: "max" or "min".
        trials: By name.
        table: `ResultGrid.get_dataframe()`: each trial's last result and configuration.
    """

    name: str
    folder: str
    is_local: bool
    metric: str
    mode: Literal["max", "min"]
    trials: tuple[Trial, ...]
    table: pd.DataFrame


def read_run(
    folder: str,
    *,
    metric: str | None = None,
    mode: Literal["max", "min"] = "max",
    say: Callable[[str], None] = lambda line: None,
) -> Run:
    """Reads a run.

    Args:
        folder: The run's folder or URI, as `train` names it.
        metric: By which trials are compared; the run's own if not given.
        mode: Whether more of it is better.
        say: Is told how far it is.

    Raises:
        SettingsError: If there is no run, or none of its trials reports the metric.
    """
    path = folder.rstrip("/") if "://" in folder else str(Path(folder).expanduser().absolute())
    say(f"reading {path}")
    try:
        analysis = ExperimentAnalysis(path)
    except (ValueError, OSError) as error:
        raise SettingsError(_no_run(path)) from error
    grid = ResultGrid(analysis)
    ids = [trial.trial_id for trial in analysis.trials]
    trials = []
    for number, (trial_id, result) in enumerate(zip(ids, grid, strict=True), start=1):
        say(f"reading trial {number} of {len(ids)}")
        trials.append(_read_trial(trial_id, result))
    metric = (metric or _metric_of_run(grid, path)).replace(".", "/")
    _check_metric(metric, trials)
    return Run(
        name=path.rpartition("/")[2],
        folder=path,
        is_local="://" not in path,
        metric=metric,
        mode=mode,
        trials=tuple(sorted(trials, key=lambda trial: trial.name)),
        table=grid.get_dataframe(),
    )


def _read_trial(trial_id: str, result: tune.Result) -> Trial:
    metrics = result.metrics or {}
    frame = result.metrics_dataframe
    if frame is None or TRAINING_ITERATION not in frame:
        frame = pd.DataFrame({TRAINING_ITERATION: pd.Series(dtype=int)})
    # A trial that went on from a checkpoint repeats the iterations since: the later ones count.
    frame = frame.drop_duplicates(TRAINING_ITERATION, keep="last").sort_values(
        TRAINING_ITERATION, ignore_index=True
    )
    filesystem, folder = result.filesystem, result.path
    return Trial(
        trial_id=trial_id,
        name=folder.rpartition("/")[2],
        folder=folder,
        status=_status(result, frame),
        error="" if result.error is None else _last_line(result.error),
        config=flatten_dict(dict(metrics.get("config") or {})),
        frame=frame,
        checkpoints=_checkpoints(result, filesystem, folder),
        samples=_read_samples(filesystem, f"{folder}/{FOLDER}"),
    )


def _status(result: tune.Result, frame: pd.DataFrame) -> Status:
    if result.error is not None:
        return "failed"
    if frame.empty:
        return "not started"
    return "finished" if (result.metrics or {}).get("done") else "unfinished"


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _checkpoints(
    result: tune.Result, filesystem: pyarrow.fs.FileSystem, folder: str
) -> tuple[Checkpoint, ...]:
    """Those that are there: the run may have been moved or tidied up since it was written."""
    iterations = {
        checkpoint.path.rpartition("/")[2]: metrics.get(TRAINING_ITERATION)
        for checkpoint, metrics in result.best_checkpoints
    }
    found = _list(filesystem, folder, pyarrow.fs.FileType.Directory)
    names = sorted(info.base_name for info in found if info.base_name.startswith("checkpoint_"))
    return tuple(
        Checkpoint(path=f"{folder}/{name}", iteration=iterations.get(name)) for name in names
    )


def _read_samples(filesystem: pyarrow.fs.FileSystem, folder: str) -> tuple[Sample, ...]:
    samples: list[Sample] = []
    for info in sorted(
        _list(filesystem, folder, pyarrow.fs.FileType.File), key=lambda info: info.path
    ):
        if info.base_name.endswith(SUFFIX):
            with filesystem.open_input_stream(info.path) as file:
                samples += from_jsonl(file.read().decode("utf-8"))
    return tuple(samples)


def _list(
    filesystem: pyarrow.fs.FileSystem, folder: str, kind: pyarrow.fs.FileType
) -> list[pyarrow.fs.FileInfo]:
    selector = pyarrow.fs.FileSelector(folder, allow_not_found=True)
    return [info for info in filesystem.get_file_info(selector) if info.type == kind]


def _metric_of_run(grid: ResultGrid, path: str) -> str:
    """What `tune.metric` was: Tune keeps it in its snapshots and gives it out nowhere else."""
    states = [
        info
        for info in _list(grid.filesystem, grid.experiment_path, pyarrow.fs.FileType.File)
        if info.base_name.startswith("experiment_state-")
    ]
    with grid.filesystem.open_input_stream(
        max(states, key=lambda info: info.base_name).path
    ) as file:
        return str(json.loads(file.read())["runner_data"].get("_metric") or DEFAULT_METRIC)


def _check_metric(metric: str, trials: list[Trial]) -> None:
    from rllib_dapo.findings import suggest

    known = {
        name for trial in trials for name in trial.frame.columns if not name.startswith("config/")
    }
    if any(len(trial.frame) for trial in trials) and metric not in known:
        raise SettingsError(
            f"--metric {metric}: no trial reports it{suggest(metric, sorted(known))}"
        )


def _no_run(path: str) -> str:
    found = sorted(
        (state.parent for state in Path(path).glob("*/experiment_state-*.json")),
        key=lambda run: run.stat().st_mtime,
    )
    hint = f"; the newest run in it is {found[-1]}" if found else ""
    if list(Path(path).parent.glob("experiment_state-*.json")):
        hint = f"; its run is {Path(path).parent}"
    return f"{path}: no run is there{hint}"


def metric_values(trial: Trial, metric: str) -> list[float]:
    """A metric's values over a trial, in order."""
    if metric not in trial.frame:
        return []
    return [float(value) for value in trial.frame[metric].dropna() if math.isfinite(value)]


def last_evaluation(trial: Trial) -> float | None:
    """The last avg@k, if there was one."""
    found = evaluation(trial.frame)
    return found.points[-1][1] if found else None
