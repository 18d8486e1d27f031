"""All that a report says, as plain data: what the page draws and `--json` writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from ray.tune.utils import flatten_dict

from rllib_dapo.metrics.metric_table import ACCURACY, NUM_GRADIENT_UPDATES_LIFETIME
from rllib_dapo.reporting.downsample import points_per_curve, thin
from rllib_dapo.reporting.read import Run, Trial, last_evaluation, metric_values
from rllib_dapo.reporting.report_panels import (
    ENV,
    FURTHER_PANELS,
    LEARNER,
    PAPER_PANELS,
    Panel,
    X,
    evaluation,
)
from rllib_dapo.reporting.sample_responses import responses_by_prompt
from rllib_dapo.reporting.sweep import plain, settings_of, varied_settings
from rllib_dapo.reporting.time_split import PARTS, time_split

_UPDATES = f"{LEARNER}/{NUM_GRADIENT_UPDATES_LIFETIME}"
_SECONDS = "time_total_s"
_STOP_REASON = "stop_reason"
_DIGITS = 5
_ABOUT = {"environment": "env", "model": "model_name", "engine": "engine"}
# Beside the run's metric, what a trial is told by: headings, and the columns whose last values
# stand under them.
_SUMMARY = {
    "entropy": f"{LEARNER}/entropy",
    "reward": "env_runners/episode_return_mean",
    "response length": "env_runners/response_length_mean",
    "accepted": "env_runners/acceptance_rate",
    "tokens/s": "env_runners/rollout_tokens_per_second",
}


def content(
    run: Run, *, link: Callable[[str], str] | None, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """What a report says.

    Args:
        run: As read.
        link: Makes a link of a folder's path, for a page, where long curves and texts are cut down;
            None keeps all.
        say: Is told how far it is.

    Returns:
        Data that JSON can hold: no infinities, no NaN.
    """
    panels = [*PAPER_PANELS, *(panel for panel in FURTHER_PANELS if _is_worth_drawing(panel, run))]
    num_curves = len(run.trials) * sum(len(panel.curves) for panel in panels)
    limit = None if link is None else points_per_curve(num_curves)
    varied = varied_settings(run.trials) if len(run.trials) > 1 else []
    responses = responses_by_prompt(run.trials, is_cut=link is not None)
    trials = []
    for number, (trial, prompts) in enumerate(zip(run.trials, responses, strict=True), start=1):
        say(f"drawing trial {number} of {len(run.trials)}")
        trials.append(
            {
                **_trial(trial, run, varied, panels, limit, link or (lambda path: path)),
                "prompts": prompts,
            }
        )
    return {
        "run": _run(run),
        "varied": varied,
        "panels": [_panel(panel, is_further=panel in FURTHER_PANELS) for panel in panels],
        "time_parts": list(PARTS),
        "trials": trials,
        "settings": settings_of(run.trials, _defaults()),
    }


def _run(run: Run) -> dict[str, Any]:
    config = next((trial.config for trial in run.trials if trial.config), {})
    frames = [trial.frame for trial in run.trials if len(trial.frame)]
    ended = [str(frame["date"].iloc[-1]) for frame in frames if "date" in frame]
    return {
        "name": run.name,
        "folder": run.folder,
        "metric": run.metric,
        "mode": run.mode,
        "ended": max(ended, default=""),
        "about": {
            name: plain(config.get(key))
            for name, key in _ABOUT.items()
            if config.get(key) is not None
        },
    }


def _panel(panel: Panel, *, is_further: bool) -> dict[str, Any]:
    return {
        "title": panel.title,
        "unit": panel.unit,
        "figure": panel.figure,
        "is_share": panel.is_share,
        "is_further": is_further,
        "has_evaluation": panel.curves[0].column == f"{ENV}/{ACCURACY}",
        "labels": [curve.label for curve in panel.curves],
    }


def _trial(
    trial: Trial,
    run: Run,
    varied: list[str],
    panels: list[Panel],
    limit: int | None,
    link: Callable[[str], str],
) -> dict[str, Any]:
    frame = trial.frame
    steps = thin(frame[X].to_numpy(), limit)
    measured = evaluation(frame)
    return {
        "name": trial.name,
        "status": trial.status,
        "error": trial.error,
        "stop_reason": _last_text(frame, _STOP_REASON),
        "folder": link(trial.folder),
        "varied": {name: plain(trial.config.get(name)) for name in varied},
        "iterations": int(frame[X].max()) if len(frame) else 0,
        "seconds": _last(metric_values(trial, _SECONDS)),
        "metric": _extent(metric_values(trial, run.metric), run.mode),
        "evaluation": number(last_evaluation(trial)),
        "summary": {name: _last(metric_values(trial, column)) for name, column in _SUMMARY.items()},
        "x": {
            "iteration": [int(step) for step in frame[X].iloc[steps]],
            "update": _numbers(frame[_UPDATES].ffill().iloc[steps]) if _UPDATES in frame else [],
            "minute": _numbers(frame[_SECONDS].iloc[steps] / 60) if _SECONDS in frame else [],
        },
        "curves": [
            [_curve(curve.values(frame), limit) for curve in panel.curves] for panel in panels
        ],
        "avg": None if measured is None else {"name": measured.name, **_points(measured.points)},
        "time": {part: number(seconds) for part, seconds in time_split(frame).items()},
        "checkpoints": [
            {
                "path": checkpoint.path,
                "link": link(checkpoint.path),
                "iteration": checkpoint.iteration,
            }
            for checkpoint in trial.checkpoints
        ],
    }


def _is_worth_drawing(panel: Panel, run: Run) -> bool:
    """Whether anything was measured; of settings, whether they changed within a trial."""
    found = [
        values
        for trial in run.trials
        for curve in panel.curves
        if (values := curve.values(trial.frame)) is not None
    ]
    if all(curve.column.startswith("config/") for curve in panel.curves):
        return any(values.nunique() > 1 for values in found)
    return bool(found)


def _curve(values: pd.Series | None, limit: int | None) -> dict[str, list] | None:
    if values is None:
        return None
    values = values[~values.isin([math.inf, -math.inf])]
    kept = values.iloc[thin(values.to_numpy(), limit)]
    return {"x": [int(x) for x in kept.index], "y": _numbers(kept)}


def _points(points: list[tuple[int, float]]) -> dict[str, list]:
    return {"x": [x for x, _ in points], "y": [number(y) for _, y in points]}


def _extent(values: list[float], mode: str) -> dict[str, float | None]:
    best = max if mode == "max" else min
    return {"last": _last(values), "best": number(best(values)) if values else None}


def _last(values: list[float]) -> float | None:
    return number(values[-1]) if values else None


def _last_text(frame: pd.DataFrame, column: str) -> str:
    if column not in frame:
        return ""
    known = frame[column].dropna()
    return str(known.iloc[-1]) if len(known) else ""


def _numbers(values: pd.Series) -> list[float | None]:
    return [number(value) for value in values]


def number(value: float | None) -> float | None:
    """With as many digits as a picture needs, whole numbers with all of theirs; None for what is no number."""
    if value is None or not math.isfinite(value):
        return None
    return value if float(value).is_integer() else float(f"{value:.{_DIGITS}g}")


def _defaults() -> Mapping[str, Any]:
    """The paper's configuration."""
    from rllib_dapo.config.dapo_config import DAPOConfig

    return flatten_dict(DAPOConfig().to_dict())
