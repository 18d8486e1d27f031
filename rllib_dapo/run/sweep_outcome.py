"""The comparison of a sweep that has ended: read from Tune's results, told, and kept in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pyarrow.fs import FileType
from ray import tune
from ray.tune.utils import flatten_dict

from rllib_dapo.ray_internals import get_fs_and_path
from rllib_dapo.run.best_trial import best_first
from rllib_dapo.run.progress import told_by_name
from rllib_dapo.run.progress_text import short
from rllib_dapo.run.run_record import RunRecord
from rllib_dapo.run.search.stoppers import STOP_REASON
from rllib_dapo.run.sweep_comparison import PointOutcome, SweepComparison, compare_sweep
from rllib_dapo.run.sweep_points import SweepTrial

FILE_NAME = "sweep.json"
_PARAMS_FILE = "params.json"
_FORMAT = 1


def sweep_trial(result: tune.Result) -> SweepTrial:
    """What a comparison needs of one of Tune's results."""
    metrics = result.metrics or {}
    return SweepTrial(
        config=settings_of(result),
        frame=result.metrics_dataframe,
        is_over=result.error is None and bool(metrics.get("done")),
        stop_reason=str(metrics.get(STOP_REASON) or ""),
    )


def settings_of(result: tune.Result) -> dict[str, Any]:
    """A trial's settings, nested names joined by slashes; empty where nothing tells them.

    A trial that failed before its first result has them in a file of its folder.
    """
    config = (result.metrics or {}).get("config")
    if config:
        return flatten_dict(dict(config))
    path = f"{result.path}/{_PARAMS_FILE}"
    if result.filesystem.get_file_info(path).type != FileType.File:
        return {}
    with result.filesystem.open_input_stream(path) as file:
        try:
            content = json.loads(file.read().decode("utf-8"))
        except ValueError:
            return {}  # cut short
    return flatten_dict(content) if isinstance(content, dict) else {}


def compare_results(results: Sequence[tune.Result], record: RunRecord) -> SweepComparison | None:
    """Compares the points of a sweep; None where there is nothing to compare.

    Args:
        results: Results of its trials.
        record: What the run was started with.
    """
    trials = [sweep_trial(result) for result in results]
    return compare_sweep(trials, metric=record.metric, mode=record.mode)


def has_seeds(comparison: SweepComparison | None) -> bool:
    """Whether points can be compared over several seeds, and one of them has a result."""
    return (
        comparison is not None
        and len(comparison.seeds) > 1
        and any(point.result.mean is not None for point in comparison.points)
    )


def rank_trials(
    values: Sequence[float | None], comparison: SweepComparison | None, mode: Any
) -> list[int]:
    """Places of trials from the best to the worst.

    With several seeds the best point comes first, so that no trial wins by a lucky seed.

    Args:
        values: The metric's last value of each trial; None for a trial that has none.
        comparison: Comparison of the same trials.
        mode: Whether more is better (`max`), or less (`min`).
    """
    by_value = best_first(values, mode)
    if comparison is None or not has_seeds(comparison):
        return by_value
    first = comparison.trials_from_best
    return [*first, *(place for place in by_value if place not in set(first))]


def point_name(place: int) -> str:
    """`point 1`: points are counted from one, in the order of their first trials."""
    return f"point {place + 1}"


def point_rows(
    comparison: SweepComparison, followers: Sequence[str], names: Sequence[str]
) -> list[tuple[str, str]]:
    """Name and text of each point, the best first.

    Args:
        comparison: The comparison.
        followers: Attributes of the configuration that follow from a variant's name.
        names: Names of the trials.
    """
    return [
        (
            point_name(place),
            f"{_tried(comparison.points[place], followers)}: {comparison.points[place].text} "
            f"({_trial_names(comparison.points[place], names)})",
        )
        for place in comparison.order
    ]


def note_rows(comparison: SweepComparison, names: Sequence[str]) -> list[tuple[str, str]]:
    """What else a summary says of a sweep: the verdict, equal results, settings that never acted.

    Args:
        comparison: The comparison.
        names: Names of the trials.
    """
    rows = [("verdict", comparison.text)] if len(comparison.points) > 1 else []
    with_seeds = len(comparison.seeds) > 1
    for group in _equal_groups(comparison):
        of_group = [
            point_name(place) if with_seeds else names[comparison.points[place].trials[0]]
            for place in group
        ]
        rows.append(("equal", f"{', '.join(of_group)}: the same {comparison.metric}"))
    return rows + [("idle", f"{name}: {why}") for name, why in comparison.idle.items()]


def write_comparison(comparison: SweepComparison, names: Sequence[str], folder: str) -> None:
    """Writes the comparison into a run's folder or URI, as JSON.

    Args:
        comparison: The comparison.
        names: Names of the trials.
        folder: The run's folder.

    Raises:
        OSError: If that fails.
    """
    content = {"format": _FORMAT, **asdict(comparison)}
    for point in content["points"]:
        point["trials"] = [names[place] for place in point["trials"]]
    filesystem, path = get_fs_and_path(folder)
    with filesystem.open_output_stream(f"{path}/{FILE_NAME}") as file:
        file.write((json.dumps(content, indent=1, default=str) + "\n").encode())


def _equal_groups(comparison: SweepComparison) -> list[tuple[int, ...]]:
    groups = {
        tuple(sorted((place, *point.result.equal_to)))
        for place, point in enumerate(comparison.points)
        if point.result.equal_to
    }
    return sorted(groups)


def _tried(point: PointOutcome, followers: Sequence[str]) -> str:
    told = told_by_name(point.settings, followers) - {"variant"}
    shown = {name: value for name, value in point.settings.items() if name not in told}
    return ", ".join(f"{name}={short(value)}" for name, value in shown.items()) or "all alike"


def _trial_names(point: PointOutcome, names: Sequence[str]) -> str:
    """`trials 0, 9, 18`: the numbers of a point's trials."""
    numbers = [names[place].split("_")[1].lstrip("0") or "0" for place in point.trials]
    return f"trial{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
