"""What is printed when a run starts and when it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ray import tune

from rllib_dapo.run.best_trial import last_value
from rllib_dapo.run.derived_settings import is_derived
from rllib_dapo.run.durations import duration
from rllib_dapo.run.failures import trial_name
from rllib_dapo.run.progress import told_by_name
from rllib_dapo.run.progress_text import folded, short
from rllib_dapo.run.resume_plan import ResumePlan
from rllib_dapo.run.run_record import RunRecord
from rllib_dapo.run.run_settings import RunSettings
from rllib_dapo.run.search.stoppers import STOP_REASON
from rllib_dapo.run.sweep_comparison import SweepComparison
from rllib_dapo.run.sweep_outcome import (
    compare_results,
    has_seeds,
    note_rows,
    point_rows,
    rank_trials,
    write_comparison,
)
from rllib_dapo.run.tuner import RunResult
from rllib_dapo.shell_text import pasteable

_ACCURACY = "env_runners/accuracy"


def opening_line(settings: RunSettings) -> str:
    """What is about to be trained, and on which environment."""
    config = settings.checked[0]
    env = config.env if isinstance(config.env, str) else config.env.__name__
    end = "" if settings.stop else "; no `stop` is set: it ends with Ctrl-C"
    return f"{settings.name}: DAPO on {env} with {config.model_name}, engine {config.engine}{end}"


def over_lines(plan: ResumePlan, folder: str, command: str) -> list[str]:
    """What to say where `--resume` finds nothing to do.

    Args:
        plan: What there is to do.
        folder: The run's folder.
        command: The command without `--storage` and `--resume`.
    """
    length = plan.record.stop.get("training_iteration")
    further = f"stop.training_iteration={2 * length}" if length else "stop.NAME=VALUE"
    longer = pasteable("--set", further, "--storage", folder, "--resume")
    count = plan.num_finished
    trials = "its trial is" if count == 1 else f"all of its {count} trials are"
    return [
        f"nothing left to do: {trials} finished, after {plan.reached}",
        _row("results", folder),
        _row("to train longer", f"{command} {longer}"),
    ]


def interruption_lines(outcome: RunResult, resume: str) -> list[str]:
    """What an interruption has left, and how to go on; empty where there was none.

    Args:
        outcome: What came out of the run.
        resume: The command that goes on with it.
    """
    if not is_interrupted(outcome):
        return []
    results = list(outcome.grid)
    finished = [result for result in results if (result.metrics or {}).get("done")]
    total = max(outcome.record.num_trials or 1, len(results))
    lines = [f"interrupted: {len(finished)} of {total} trials finished"]
    if total == 1:
        lines = ["interrupted:"]

    for result in sorted(results, key=trial_name):
        if result.error is None and result not in finished:
            lines.append(_row(trial_name(result), _kept(result)))
    return [*lines, _row("to go on", resume)]


def summary_lines(outcome: RunResult, settings: RunSettings) -> list[str]:
    """A short table of the results, and the command to type next."""
    done = [
        result
        for result in outcome.grid
        if result.metrics and "training_iteration" in result.metrics
    ]
    if not done:
        return []

    best = best_result(done, outcome.record)
    lines = _trial_rows(done, best, settings, outcome.record) if len(done) > 1 else []
    if len(outcome.grid) > 1:
        lines = _sweep_rows(outcome, best, settings, trial_rows=lines)
    lines += _figures(best)
    lines.append(_row("results", outcome.folder))
    if best.checkpoint is not None:
        checkpoint = best.checkpoint.path
        export = pasteable("rllib-dapo", "export", checkpoint, f"{settings.name}-model")
        lines += [_row("checkpoint", checkpoint), _row("to use it", export)]
    return lines


def is_interrupted(outcome: RunResult) -> bool:
    """Whether a signal ended the run, rather than its `stop` or an error."""
    return outcome.signal_number is not None or any(
        result.error is None and not (result.metrics or {}).get("done") for result in outcome.grid
    )


def best_result(results: Sequence[tune.Result], record: RunRecord) -> tune.Result:
    """The best trial by the run's own metric and mode, as its report has it.

    Args:
        results: At least one result.
        record: What the run was started with.
    """
    ordered = sorted(results, key=trial_name)  # a resumed run has them in any order
    values = [last_value(result.metrics_dataframe, record.metric) for result in ordered]
    comparison = compare_results(ordered, record) if len(ordered) > 1 else None
    return ordered[rank_trials(values, comparison, record.mode)[0]]


def evaluations(result: tune.Result) -> tuple[str, list[float]]:
    """Reads a trial's evaluations.

    Args:
        result: Result of the trial.

    Returns:
        The name of the metric, such as `avg@8`, and its values in order, beginning with the one
        before training; both are empty if nothing was evaluated.
    """
    frame = result.metrics_dataframe
    if frame is None:
        return "", []

    during = {
        column.rpartition("/")[2]: column
        for column in frame.columns
        if column.startswith("evaluation/env_runners/avg@")
    }
    before = [
        column
        for column in frame.columns
        if column.startswith("evaluation_at_start/env_runners/avg@")
    ]
    name = next(iter(during), before[0].rpartition("/")[2] if before else "")

    # Every result repeats the evaluation before training.
    first = [float(frame[column].dropna().iloc[0]) for column in before]
    later = [float(value) for value in frame[during[name]].dropna()] if name in during else []
    return name, first + later


def _kept(result: tune.Result) -> str:
    """Up to where an interrupted trial is kept."""
    reached = (result.metrics or {}).get("training_iteration", 0)
    saved = [metrics["training_iteration"] for _, metrics in result.best_checkpoints]
    if not saved:
        return f"at iteration {reached}, no checkpoint yet: it begins again"
    return f"at iteration {reached}, kept up to {max(saved)}"


def _trial_rows(
    results: Sequence[tune.Result],
    best: tune.Result,
    settings: RunSettings,
    record: RunRecord,
) -> list[str]:
    """A row for each trial, and one for the best."""
    varied = _varied(results, settings.followers)
    width = max(len(trial_name(result)) for result in results)
    rows = [
        line
        for result in sorted(results, key=trial_name)
        for line in folded(
            _row(f"{trial_name(result):{width}}", _trial_text(result, varied, record.metric))
        )
    ]
    return [*rows, _best_row(best, record)]


def _sweep_rows(
    outcome: RunResult, best: tune.Result, settings: RunSettings, *, trial_rows: list[str]
) -> list[str]:
    """Rows on the points of a sweep and what they show; keeps the comparison in a file.

    With one seed a point is a trial, and has its row already.
    """
    results = sorted(outcome.grid, key=trial_name)
    comparison = compare_results(results, outcome.record)
    if comparison is None:
        return trial_rows
    names = [trial_name(result) for result in results]
    with suppress(OSError):  # the summary is more important than the file
        write_comparison(comparison, names, outcome.folder)

    rows = list(trial_rows)
    if has_seeds(comparison):
        points = point_rows(comparison, settings.followers, names)
        rows = [line for point in points for line in folded(_row(*point))]
        rows.append(_best_row(best, outcome.record, comparison=comparison))
    notes = note_rows(comparison, names)
    return rows + [line for note in notes for line in folded(_row(*note))]


def _best_row(
    best: tune.Result, record: RunRecord, *, comparison: SweepComparison | None = None
) -> str:
    name = trial_name(best)
    if comparison is not None:
        name += ", the best trial of the best point"
    return _row("best", f"{name}, by {record.mode} of its last {record.metric}")


def _trial_text(result: tune.Result, varied: Sequence[str], metric: str) -> str:
    """What a trial tried, and what came of it."""
    config, metrics = _flat(result.config), _flat(result.metrics)
    tried = ", ".join(f"{name}={short(config.get(name))}" for name in varied)
    value = last_value(result.metrics_dataframe, metric)
    measured = f"no {metric}" if value is None else f"{metric} {value:.4g}"
    outcome = f"{measured} after {metrics['training_iteration']} iterations"
    return f"{tried}{': ' if tried else ''}{outcome}{_early_end(metrics)}"


def _varied(results: Sequence[tune.Result], followers: Sequence[str]) -> list[str]:
    """The settings that differ between trials, but for those that their names tell."""
    first, *others = [_flat(result.config) for result in results]
    told = told_by_name(first, followers)
    return [
        name
        for name in first
        if any(config.get(name) != first[name] for config in others)
        and name not in told
        and not is_derived(name)
    ]


def _figures(result: tune.Result) -> list[str]:
    """Rows on one trial: how long it trained, and what it reached."""
    metrics, frame = result.metrics, result.metrics_dataframe
    trained = f"{metrics['training_iteration']} iterations in {duration(metrics['time_total_s'])}"
    lines = [_row("trained", trained + _early_end(metrics))]

    if frame is not None and _ACCURACY in frame:
        accuracy = frame.set_index("training_iteration")[_ACCURACY].dropna()
        best = f"best {accuracy.max():.3f} (iteration {accuracy.idxmax()})"
        lines.append(_row("accuracy", f"last {accuracy.iloc[-1]:.3f}, {best}"))

    name, values = evaluations(result)
    if values:
        path = f"{values[0]:.3f} -> {values[-1]:.3f}" if len(values) > 1 else f"{values[0]:.3f}"
        lines.append(_row(f"evaluation {name}", path))
    return lines


def _early_end(metrics: Mapping[str, Any]) -> str:
    """Why a trial ended, unless it came to its planned end."""
    reason = metrics.get(STOP_REASON)
    return f"; stopped: {reason}" if reason and not reason.startswith("training_iteration") else ""


def _row(name: str, text: str) -> str:
    return f"  {name:18} {text}"


def _flat(tree: Mapping[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    """Nested values by name, names joined by slashes; empty mappings leave nothing."""
    flat: dict[str, Any] = {}
    for name, value in (tree or {}).items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
