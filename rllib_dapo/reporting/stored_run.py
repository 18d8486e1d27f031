"""A run's folder as Ray Tune reads it back, finished or not, and what is stored beside its results.

The folder may have been moved since the run wrote it, and may be in a bucket: everything is read
through the file system that Tune found it in.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType
from ray.air.constants import EXPR_RESULT_FILE, TRAINING_ITERATION
from ray.tune import ExperimentAnalysis, ResultGrid

from rllib_dapo.envs.row_counts import DATA_FILE, DataReport, data_reports_from_json
from rllib_dapo.findings import SettingsError, suggest
from rllib_dapo.model_check.model_report import FILE_NAME, ModelReport
from rllib_dapo.reporting.report_panels import evaluation_curve
from rllib_dapo.reporting.result_lines import whole_results
from rllib_dapo.run.error_cause import cause_line
from rllib_dapo.run.run_record import find_record
from rllib_dapo.run.sweep_outcome import settings_of
from rllib_dapo.tracking.sample_record import FOLDER, SUFFIX, Sample, from_jsonl
from rllib_dapo.tracking.timeline import (
    TIMELINE_FOLDER,
    TIMELINE_SUFFIX,
    Span,
    read_timeline,
)

if TYPE_CHECKING:
    from ray import tune

Status = Literal["finished", "unfinished", "failed", "not started"]
DEFAULT_METRIC = "env_runners/accuracy"
_STOP_REASON = "stop_reason"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCheckpoint:
    """One checkpoint of a trial.

    Attributes:
        path: Path of its folder.
        iteration: Iteration it was made after; None where that is not known.
    """

    path: str
    iteration: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTrial:
    """One trial of a run.

    Attributes:
        trial_id: Tune's id of the trial.
        name: Name of its folder.
        folder: Path of its folder in the run's storage.
        status: Whether it ended as planned, was interrupted or is still running, raised, or has no
            result yet.
        error: What it failed of, in one line; empty if it did not.
        config: Values by attribute of the configuration, nested names joined by slashes.
        frame: Results, one row per iteration.
        checkpoints: Checkpoints that still exist, oldest first.
        samples: Rows of its tables of sampled responses, in order.
        model_report: What the check of its model has found; None where there was none.
        data_reports: What the environments of "training" and "evaluation" have read from files.
        timeline: Who worked when in the last iterations, by iteration.
        stop_reason: Why it ended; empty where nothing says it.
    """

    trial_id: str
    name: str
    folder: str
    status: Status
    error: str
    config: Mapping[str, Any]
    frame: pd.DataFrame
    checkpoints: tuple[StoredCheckpoint, ...]
    samples: tuple[Sample, ...]
    model_report: ModelReport | None = None
    data_reports: Mapping[str, DataReport] = field(default_factory=dict)
    timeline: Mapping[int, Sequence[Span]] = field(default_factory=dict)
    stop_reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredRun:
    """A run of one or more trials.

    Attributes:
        name: Name of its folder.
        folder: Path or URI of its folder.
        is_local: Whether the folder is in this machine's file system.
        metric: Metric by which trials are compared.
        mode: Whether a higher (`max`) or a lower (`min`) value is better.
        trials: Trials in the order of their names.
        table: `ResultGrid.get_dataframe()`: each trial's last result and configuration.
    """

    name: str
    folder: str
    is_local: bool
    metric: str
    mode: Literal["max", "min"]
    trials: tuple[StoredTrial, ...]
    table: pd.DataFrame


def read_run(
    folder: str,
    *,
    metric: str | None = None,
    mode: Literal["max", "min"] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> StoredRun:
    """Reads a run.

    Args:
        folder: Folder or URI of the run, as `rllib-dapo train` prints it.
        metric: Metric by which trials are compared, with dots or slashes; by default the run's
            own.
        mode: Whether a higher or a lower value is better; by default the run's own, and `max` where
            another metric than the run's is asked for.
        say: Receives lines about progress.

    Raises:
        SettingsError: If the folder holds no run, or no trial reports the metric asked for.
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

    is_asked_for = metric is not None
    metric, mode = _compared_by(grid, metric, mode)
    if is_asked_for:  # the run's own may be one of evaluations, and there was none yet
        _check_metric(metric, trials)

    return StoredRun(
        name=path.rpartition("/")[2],
        folder=path,
        is_local="://" not in path,
        metric=metric,
        mode=mode,
        trials=tuple(sorted(trials, key=lambda trial: trial.name)),
        table=grid.get_dataframe(),
    )


def _read_trial(trial_id: str, result: tune.Result) -> StoredTrial:
    filesystem, folder = result.filesystem, result.path
    metrics = result.metrics or {}
    frame = result.metrics_dataframe
    if frame is None or TRAINING_ITERATION not in frame:
        # Tune reads nothing of a file whose last line is still being written.
        rows = whole_results(filesystem, f"{folder}/{EXPR_RESULT_FILE}")
        frame = pd.json_normalize(rows, sep="/")
        metrics = metrics or (rows[-1] if rows else {})
    if TRAINING_ITERATION not in frame:
        frame = pd.DataFrame({TRAINING_ITERATION: pd.Series(dtype=int)})

    # A trial that was resumed from a checkpoint repeats the iterations after it: the later ones
    # count.
    frame = frame.drop_duplicates(TRAINING_ITERATION, keep="last")
    frame = frame.sort_values(TRAINING_ITERATION, ignore_index=True)

    return StoredTrial(
        trial_id=trial_id,
        name=folder.rpartition("/")[2],
        folder=folder,
        status=_status(result, frame),
        error="" if result.error is None else cause_line(result.error),
        config=settings_of(result),
        frame=frame,
        checkpoints=_read_checkpoints(result, filesystem, folder),
        samples=_read_samples(filesystem, f"{folder}/{FOLDER}"),
        model_report=_read_model_report(filesystem, f"{folder}/{FILE_NAME}"),
        data_reports=_read_data_reports(filesystem, f"{folder}/{DATA_FILE}"),
        timeline=_read_timeline(filesystem, f"{folder}/{TIMELINE_FOLDER}"),
        stop_reason=str(metrics.get(_STOP_REASON) or ""),
    )


def _status(result: tune.Result, frame: pd.DataFrame) -> Status:
    if result.error is not None:
        return "failed"
    if frame.empty:
        return "not started"
    return "finished" if (result.metrics or {}).get("done") else "unfinished"


def _read_checkpoints(
    result: tune.Result, filesystem: FileSystem, folder: str
) -> tuple[StoredCheckpoint, ...]:
    """Lists the checkpoints that exist now: some may have been deleted since Tune recorded them."""
    iterations = {
        checkpoint.path.rpartition("/")[2]: metrics.get(TRAINING_ITERATION)
        for checkpoint, metrics in result.best_checkpoints
    }
    folders = _list(filesystem, folder, FileType.Directory)
    names = sorted(info.base_name for info in folders if info.base_name.startswith("checkpoint_"))
    return tuple(
        StoredCheckpoint(path=f"{folder}/{name}", iteration=iterations.get(name)) for name in names
    )


def _read_samples(filesystem: FileSystem, folder: str) -> tuple[Sample, ...]:
    files = _list(filesystem, folder, FileType.File)
    samples: list[Sample] = []
    for info in sorted(files, key=lambda info: info.path):
        if info.base_name.endswith(SUFFIX):
            with filesystem.open_input_stream(info.path) as file:
                samples += from_jsonl(file.read().decode("utf-8"))
    return tuple(samples)


def _read_timeline(filesystem: FileSystem, folder: str) -> dict[int, list[Span]]:
    found: dict[int, list[Span]] = {}
    for info in _list(filesystem, folder, FileType.File):
        if info.base_name.endswith(TIMELINE_SUFFIX):
            with filesystem.open_input_stream(info.path) as file, suppress(ValueError):
                iteration, spans = read_timeline(file.read().decode("utf-8"))
                found[iteration] = spans
    return dict(sorted(found.items()))


def _read_model_report(filesystem: FileSystem, path: str) -> ModelReport | None:
    if filesystem.get_file_info(path).type != FileType.File:
        return None
    with filesystem.open_input_stream(path) as file:
        try:
            return ModelReport.from_json(file.read().decode("utf-8"))
        except ValueError:
            return None  # cut short, or somebody else's


def _read_data_reports(filesystem: FileSystem, path: str) -> dict[str, DataReport]:
    if filesystem.get_file_info(path).type != FileType.File:
        return {}
    with filesystem.open_input_stream(path) as file:
        try:
            return data_reports_from_json(file.read().decode("utf-8"))
        except ValueError:
            return {}  # cut short, or somebody else's


def _list(filesystem: FileSystem, folder: str, kind: FileType) -> list[FileInfo]:
    selector = FileSelector(folder, allow_not_found=True)
    return [info for info in filesystem.get_file_info(selector) if info.type == kind]


def _compared_by(
    grid: ResultGrid, metric: str | None, mode: Literal["max", "min"] | None
) -> tuple[str, Literal["max", "min"]]:
    """The metric and mode that were asked for, else those that the run was started with."""
    record = find_record(grid.filesystem, grid.experiment_path)
    if record is None:
        own_metric, own_mode = _tunes_metric(grid), None  # of plain Tune, or an earlier version
    else:
        own_metric, own_mode = record.metric, record.mode

    asked = (metric or own_metric).replace(".", "/")
    is_own = asked == own_metric
    return asked, mode or (own_mode if is_own else None) or "max"


def _tunes_metric(grid: ResultGrid) -> str:
    """The metric that Tune was given, from its newest snapshot: no interface tells it."""
    files = _list(grid.filesystem, grid.experiment_path, FileType.File)
    snapshots = [info for info in files if info.base_name.startswith("experiment_state-")]
    newest = max(snapshots, key=lambda info: info.base_name)
    with grid.filesystem.open_input_stream(newest.path) as file:
        return str(json.loads(file.read())["runner_data"].get("_metric") or DEFAULT_METRIC)


def _check_metric(metric: str, trials: list[StoredTrial]) -> None:
    if not any(len(trial.frame) for trial in trials):
        return  # a run that has just begun reports nothing yet
    columns = {name for trial in trials for name in trial.frame.columns}
    known = {name for name in columns if not name.startswith("config/")}
    if metric not in known:
        raise SettingsError(
            f"--metric {metric}: no trial reports it{suggest(metric, sorted(known))}"
        )


def _no_run(path: str) -> str:
    """The message for a folder without a run, with the run that was probably meant."""
    inside = sorted(
        (state.parent for state in Path(path).glob("*/experiment_state-*.json")),
        key=lambda run: run.stat().st_mtime,
    )
    hint = f"; the newest run in it is {inside[-1]}" if inside else ""
    if list(Path(path).parent.glob("experiment_state-*.json")):
        hint = f"; it belongs to the run {Path(path).parent}"
    return f"{path}: no run is there{hint}"


def metric_values(trial: StoredTrial, metric: str) -> list[float]:
    """A metric's finite values over a trial, in order."""
    if metric not in trial.frame:
        return []
    return [float(value) for value in trial.frame[metric].dropna() if math.isfinite(value)]


def last_evaluation(trial: StoredTrial) -> float | None:
    """The last avg@k of a trial, or None if there was no evaluation."""
    curve = evaluation_curve(trial.frame)
    return curve.points[-1][1] if curve else None
