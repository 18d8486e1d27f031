"""What is said when a run starts and when it is over."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ray import tune

from rllib_dapo.run.progress import duration, short, told_by_name
from rllib_dapo.run.run_settings import RunSettings
from rllib_dapo.run.search.stoppers import STOP_REASON
from rllib_dapo.run.tuner import RunResult, worker_log_path

_ACCURACY = "env_runners/accuracy"


def opening_line(settings: RunSettings) -> str:
    """What is about to be trained on what."""
    config = settings.checked[0]
    env = config.env if isinstance(config.env, str) else config.env.__name__
    end = "" if settings.stop else "; no `stop` is set: it ends with Ctrl-C"
    return f"{settings.name}: DAPO on {env} with {config.model_name}, engine {config.engine}{end}"


def failure_lines(outcome: RunResult) -> list[str]:
    """Why trials failed, and where to read all of it; empty where none did."""
    lines = []
    for result in outcome.grid:
        if result.error is not None:
            told = [line for line in str(result.error).splitlines() if line.strip()]
            lines += [
                f"{_name(result)} failed: {told[-1].strip() if told else type(result.error).__name__}"
            ]
            lines += [f"  all of it: {result.path}/error.txt"]
    if lines and outcome.exceptions:
        lines.append("the first errors that any process printed:")
        lines += [f"  {line}" for line in outcome.exceptions]
        lines.append(f"  all of it: {worker_log_path(outcome.folder)}")
    return lines


def summary_lines(outcome: RunResult, settings: RunSettings) -> list[str]:
    """A short table of what came out, and what to type next."""
    done = [
        result
        for result in outcome.grid
        if result.metrics and "training_iteration" in result.metrics
    ]
    storage = outcome.folder.rpartition("/")[0]
    again = [_row("to go on", f"rllib-dapo train {settings.source} --storage {storage} --resume")]
    if not done:
        return again if is_interrupted(outcome) else []
    best, metric = _best(done, settings), settings.tune.metric
    lines = []
    if len(done) > 1:
        varied, width = (
            _varied(done, settings.followers),
            max(len(_name(result)) for result in done),
        )
        rows = sorted(done, key=_name)  # a run that was gone on with has them in any order
        lines = [
            _row(f"{_name(result):{width}}", _trial_line(result, varied, metric)) for result in rows
        ]
        lines.append(_row("best", f"{_name(best)}, by {settings.tune.mode} of its last {metric}"))
    lines += _figures(best)
    lines.append(_row("results", outcome.folder))
    if best.checkpoint is not None:
        lines.append(_row("checkpoint", best.checkpoint.path))
        lines.append(
            _row("to use it", f"rllib-dapo export {best.checkpoint.path} {settings.name}-model")
        )
    return lines + (again if is_interrupted(outcome) else [])


def is_interrupted(outcome: RunResult) -> bool:
    """Whether Ctrl-C ended the run, rather than its `stop` or an error."""
    return any(
        result.error is None and not (result.metrics or {}).get("done") for result in outcome.grid
    )


def evaluations(result: tune.Result) -> tuple[str, list[float]]:
    """The name of a trial's avg@k, and its values in order, that before training first.

    Args:
        result: A trial's.

    Returns:
        The name and the values; empty where nothing was evaluated.
    """
    frame = result.metrics_dataframe
    if frame is None:
        return "", []
    found = {
        c.rpartition("/")[2]: c
        for c in frame.columns
        if c.startswith("evaluation/env_runners/avg@")
    }
    start = [c for c in frame.columns if c.startswith("evaluation_at_start/env_runners/avg@")]
    name = next(iter(found), start[0].rpartition("/")[2] if start else "")
    later = [float(v) for v in frame[found[name]].dropna()] if name in found else []
    return name, [float(frame[c].dropna().iloc[0]) for c in start] + later


def _best(results: Iterable[tune.Result], settings: RunSettings) -> tune.Result:
    sign = 1 if settings.tune.mode == "max" else -1

    def score(result: tune.Result) -> float:
        value = _flat(result.metrics).get(settings.tune.metric)
        return -math.inf if value is None else sign * value

    return max(results, key=score)


def _figures(result: tune.Result) -> list[str]:
    metrics, frame = result.metrics, result.metrics_dataframe
    trained = f"{metrics['training_iteration']} iterations in {duration(metrics['time_total_s'])}"
    lines = [_row("trained", trained + _early(metrics))]
    if frame is not None and _ACCURACY in frame:
        accuracy = frame.set_index("training_iteration")[_ACCURACY].dropna()
        lines.append(
            _row(
                "accuracy",
                f"last {accuracy.iloc[-1]:.3f}, best {accuracy.max():.3f} (iteration {accuracy.idxmax()})",
            )
        )
    name, values = evaluations(result)
    if values:
        path = f"{values[0]:.3f} -> {values[-1]:.3f}" if len(values) > 1 else f"{values[0]:.3f}"
        lines.append(_row(f"evaluation {name}", path))
    return lines


def _trial_line(result: tune.Result, varied: Sequence[str], metric: str) -> str:
    config, metrics = _flat(result.config), _flat(result.metrics)
    tried = ", ".join(f"{name}={short(config.get(name))}" for name in varied)
    value = metrics.get(metric, math.nan)
    outcome = f"{metric} {value:.4g} after {metrics['training_iteration']} iterations"
    return f"{tried}{': ' if tried else ''}{outcome}{_early(metrics)}"


def _early(metrics: Mapping[str, Any]) -> str:
    """Why a trial ended, where it is not that it came to its end."""
    reason = metrics.get(STOP_REASON)
    return f"; stopped: {reason}" if reason and not reason.startswith("training_iteration") else ""


def _varied(results: Sequence[tune.Result], followers: Sequence[str]) -> list[str]:
    """What differs between trials' configurations, but for what their names say already."""
    configs = [_flat(result.config) for result in results]
    # Tune keeps tuples as lists, so RLlib's own `policies` of a run that was gone on with seem to
    # differ.
    told = {
        *told_by_name(configs[0], followers),
        *(name for name in configs[0] if name.startswith("policies/")),
    }
    return [
        name
        for name in configs[0]
        if any(c.get(name) != configs[0][name] for c in configs) and name not in told
    ]


def _name(result: tune.Result) -> str:
    return result.path.rpartition("/")[2]


def _row(name: str, text: str) -> str:
    return f"  {name:18} {text}"


def _flat(metrics: Mapping[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in (metrics or {}).items():
        flat |= (
            _flat(value, f"{prefix}{name}/")
            if isinstance(value, Mapping)
            else {f"{prefix}{name}": value}
        )
    return flat
