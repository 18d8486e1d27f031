"""What is printed when a run starts and when it is over."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ray import tune

from rllib_dapo.run.derived_settings import is_derived
from rllib_dapo.run.progress import duration, short, told_by_name
from rllib_dapo.run.run_folder import worker_log_path
from rllib_dapo.run.run_settings import RunSettings
from rllib_dapo.run.search.stoppers import STOP_REASON
from rllib_dapo.run.tuner import RunResult

_ACCURACY = "env_runners/accuracy"


def opening_line(settings: RunSettings) -> str:
    """What is about to be trained, and on which environment."""
    config = settings.checked[0]
    env = config.env if isinstance(config.env, str) else config.env.__name__
    end = "" if settings.stop else "; no `stop` is set: it ends with Ctrl-C"
    return f"{settings.name}: DAPO on {env} with {config.model_name}, engine {config.engine}{end}"


def failure_lines(outcome: RunResult) -> list[str]:
    """Why trials failed, and where to read more about it; empty if none did."""
    lines = []
    for result in outcome.grid:
        if result.error is not None:
            told = [line for line in str(result.error).splitlines() if line.strip()]
            reason = told[-1].strip() if told else type(result.error).__name__
            lines.append(f"{_name(result)} failed: {reason}")
            lines.append(f"  all of it: {result.path}/error.txt")

    if lines and outcome.exceptions:
        lines.append("the first errors that any process printed:")
        lines += [f"  {line}" for line in outcome.exceptions]
        lines.append(f"  all of it: {worker_log_path(outcome.folder)}")
    return lines


def summary_lines(outcome: RunResult, settings: RunSettings) -> list[str]:
    """A short table of the results, and the commands to type next."""
    storage = outcome.folder.rpartition("/")[0]
    resume = f"rllib-dapo train {settings.source} --storage {storage} --resume"
    next_steps = [_row("to go on", resume)] if is_interrupted(outcome) else []

    done = [
        result
        for result in outcome.grid
        if result.metrics and "training_iteration" in result.metrics
    ]
    if not done:
        return next_steps

    best = _best(done, settings)
    lines = _trial_rows(done, best, settings) if len(done) > 1 else []
    lines += _figures(best)
    lines.append(_row("results", outcome.folder))
    if best.checkpoint is not None:
        checkpoint = best.checkpoint.path
        lines.append(_row("checkpoint", checkpoint))
        lines.append(_row("to use it", f"rllib-dapo export {checkpoint} {settings.name}-model"))
    return lines + next_steps


def is_interrupted(outcome: RunResult) -> bool:
    """Whether Ctrl-C ended the run, rather than its `stop` or an error."""
    return any(
        result.error is None and not (result.metrics or {}).get("done") for result in outcome.grid
    )


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


def _best(results: Iterable[tune.Result], settings: RunSettings) -> tune.Result:
    sign = 1 if settings.tune.mode == "max" else -1

    def score(result: tune.Result) -> float:
        value = _flat(result.metrics).get(settings.tune.metric)
        return -math.inf if value is None else sign * value

    return max(results, key=score)


def _trial_rows(
    results: Sequence[tune.Result], best: tune.Result, settings: RunSettings
) -> list[str]:
    """A row for each trial, and one for the best."""
    metric = settings.tune.metric
    varied = _varied(results, settings.followers)
    width = max(len(_name(result)) for result in results)
    rows = [
        _row(f"{_name(result):{width}}", _trial_text(result, varied, metric))
        for result in sorted(results, key=_name)  # a resumed run has them in any order
    ]
    rows.append(_row("best", f"{_name(best)}, by {settings.tune.mode} of its last {metric}"))
    return rows


def _trial_text(result: tune.Result, varied: Sequence[str], metric: str) -> str:
    """What a trial tried, and what came of it."""
    config, metrics = _flat(result.config), _flat(result.metrics)
    tried = ", ".join(f"{name}={short(config.get(name))}" for name in varied)
    value = metrics.get(metric, math.nan)
    outcome = f"{metric} {value:.4g} after {metrics['training_iteration']} iterations"
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


def _name(result: tune.Result) -> str:
    return result.path.rpartition("/")[2]


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
