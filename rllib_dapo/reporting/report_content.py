"""All that a report says, as plain data: what the page draws and `--json` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ray.tune.utils import flatten_dict

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.metrics.metric_table import (
    ACCURACY,
    COMPLETED_AND_CORRECT,
)
from rllib_dapo.reporting.compared_runs import ComparedRuns, compared_runs
from rllib_dapo.reporting.figures_content import (
    CurveLimits,
    curve_limits,
    curve_name,
    figure_names,
    figures_list,
    horizontal_axes,
    json_number,
    thinning,
    trial_figures,
)
from rllib_dapo.reporting.report_panels import (
    ENV,
    FURTHER_PANELS,
    ITERATION,
    LEARNER,
    PAPER_PANELS,
    ReportPanel,
    evaluation_curve,
)
from rllib_dapo.reporting.responses_by_prompt import responses_by_prompt
from rllib_dapo.reporting.run_notes import run_notes
from rllib_dapo.reporting.seed_groups import seed_groups
from rllib_dapo.reporting.setting_importance import setting_importance
from rllib_dapo.reporting.stored_run import StoredRun, StoredTrial, last_evaluation, metric_values
from rllib_dapo.reporting.sweep_content import run_comparison, sweep_content
from rllib_dapo.reporting.time_split import PARTS, time_split
from rllib_dapo.reporting.timeline_content import timeline_content
from rllib_dapo.reporting.trial_settings import json_setting, settings_table, varied_settings
from rllib_dapo.run.best_trial import last_value
from rllib_dapo.run.sweep_comparison import SweepComparison
from rllib_dapo.run.sweep_outcome import rank_trials
from rllib_dapo.shell_text import pasteable

if TYPE_CHECKING:
    import pandas

_SECONDS = "time_total_s"
_STOP_REASON = "stop_reason"
_ABOUT = {"environment": "env", "model": "model_name", "engine": "engine"}
# What the table of trials shows beside the run's metric: headings, and the columns whose last
# values are under them.
_SUMMARY = {
    "completed and correct": f"{ENV}/{COMPLETED_AND_CORRECT}",
    "entropy": f"{LEARNER}/entropy",
    "reward": f"{ENV}/episode_return_mean",
    "response length": f"{ENV}/response_length_mean",
    "accepted": f"{ENV}/acceptance_rate",
    "tokens/s": f"{ENV}/rollout_tokens_per_second",
}


def report_content(
    *runs: StoredRun,
    link: Callable[[str], str] | None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Gathers what a report says.

    Args:
        *runs: The runs, as `read_run` returns them. Trials of several are compared with one
            another, by the metric and mode of the first run.
        link: For a page: makes a link out of a folder's path, and long curves and texts are cut
            down. None keeps them whole and paths as they are.
        say: Receives lines about progress.

    Returns:
        Data that JSON can hold: no infinities, no NaN.
    """
    compared = compared_runs(runs)
    run = compared.together
    panels = [*PAPER_PANELS, *(panel for panel in FURTHER_PANELS if _is_worth_drawing(panel, run))]
    names = figure_names(run.trials, panels)
    limits = CurveLimits(None, None)
    if link is not None:
        limits = curve_limits(run.trials, names, panels)
    varied = varied_settings(run.trials) if len(run.trials) > 1 else []
    responses = responses_by_prompt(run.trials, is_cut=link is not None)

    trials = []
    for number, (trial, prompts) in enumerate(zip(run.trials, responses, strict=True), start=1):
        say(f"drawing trial {number} of {len(run.trials)}")
        content = _trial_content(trial, run, varied, limits.panels, link or (lambda path: path))
        figures = trial_figures(trial, names, panels, limits)
        trials.append({**content, "figures": figures, "prompts": prompts})

    comparison = run_comparison(run) if len(runs) == 1 else None
    return {
        "run": _run_content(run, comparison),
        "runs": _runs_content(compared),
        "notes": run_notes(run.trials),
        "varied": varied,
        "sweep_comparison": sweep_content(comparison),
        "seed_groups": seed_groups(run.trials, varied, compared.run_of_trial),
        "importance": _importance_content(trials, varied, compared),
        "panels": [_panel_content(panel) for panel in panels],
        "figures": figures_list(names),
        "thinned": thinning(run.trials, limits),
        "time_parts": list(PARTS),
        "trials": trials,
        "models": _models_content(run),
        "data": _data_content(run),
        "settings": settings_table(run.trials, _paper_settings()),
    }


def _runs_content(compared: ComparedRuns) -> list[dict[str, Any]]:
    """The runs on the page, each with the places of its trials."""
    return [
        {
            "label": label,
            "name": run.name,
            "folder": run.folder,
            "metric": run.metric,
            "trials": [i for i, of in enumerate(compared.run_of_trial) if of == place],
        }
        for place, (run, label) in enumerate(zip(compared.runs, compared.labels, strict=True))
    ]


def _importance_content(
    trials: Sequence[Mapping[str, Any]], varied: Sequence[str], compared: ComparedRuns
) -> list[dict[str, Any]]:
    """What each setting, and the run, explains of everything that trials are compared by."""
    metric = compared.together.metric
    settings = {name: [trial["varied"][name] for trial in trials] for name in varied}
    if len(compared.runs) > 1:
        settings["run"] = [compared.labels[run] for run in compared.run_of_trial]
    outcomes = {
        f"last {metric}": [trial["metric"]["last"] for trial in trials],
        f"best {metric}": [trial["metric"]["best"] for trial in trials],
        "last evaluation": [trial["evaluation"] for trial in trials],
        **{f"last {name}": [trial["summary"][name] for trial in trials] for name in _SUMMARY},
    }
    return [
        {"outcome": outcome, "settings": setting_importance(settings, values)}
        for outcome, values in outcomes.items()
    ]


def _run_content(run: StoredRun, comparison: SweepComparison | None) -> dict[str, Any]:
    config = next((trial.config for trial in run.trials if trial.config), {})
    frames = [trial.frame for trial in run.trials if len(trial.frame)]
    values = [last_value(trial.frame, run.metric) for trial in run.trials]
    ranking = rank_trials(values, comparison, run.mode)
    ended = [str(frame["date"].iloc[-1]) for frame in frames if "date" in frame]

    return {
        "name": run.name,
        "folder": run.folder,
        "export": _export_command(run, ranking),
        "metric": run.metric,
        "mode": run.mode,
        "from_best": ranking,
        "best": run.trials[ranking[0]].name if ranking else None,
        "ended": max(ended, default=""),
        "about": {
            name: json_setting(config.get(key))
            for name, key in _ABOUT.items()
            if config.get(key) is not None
        },
    }


def _export_command(run: StoredRun, ranking: Sequence[int]) -> str | None:
    """What makes a model of the newest checkpoint of the best trial that has one."""
    for place in ranking:
        checkpoints = run.trials[place].checkpoints
        if checkpoints:
            return pasteable("rllib-dapo", "export", checkpoints[-1].path, "MODEL")
    return None


def _models_content(run: StoredRun) -> list[dict[str, Any]]:
    """What the check of each model has found; trials that found the same stand together."""
    found: dict[tuple, dict[str, Any]] = {}
    for trial in run.trials:
        report = trial.model_report
        if report is None:
            continue
        model = found.setdefault(
            (report.model, report.architecture, report.findings),
            {
                "model": report.model,
                "architecture": report.architecture,
                "findings": [asdict(finding) for finding in report.findings],
                "trials": [],
            },
        )
        model["trials"].append(trial.name)
    return list(found.values())


def _data_content(run: StoredRun) -> list[dict[str, Any]]:
    """What environments have read from files; trials that read the same stand together."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for trial in run.trials:
        for use, report in trial.data_reports.items():
            lines = report.lines()
            entry = {"use": use, "lines": lines, "trials": []}
            found.setdefault((use, "\n".join(lines)), entry)["trials"].append(trial.name)
    return list(found.values())


def _panel_content(panel: ReportPanel) -> dict[str, Any]:
    return {
        "title": panel.title,
        "unit": panel.unit,
        "figure": panel.figure,
        "is_share": panel.is_share,
        "is_further": panel in FURTHER_PANELS,
        "has_evaluation": panel.curves[0].column == f"{ENV}/{ACCURACY}",
        "curves": [{"label": curve.label, "figure": curve_name(curve)} for curve in panel.curves],
    }


def _trial_content(
    trial: StoredTrial,
    run: StoredRun,
    varied: list[str],
    limit: int | None,
    link: Callable[[str], str],
) -> dict[str, Any]:
    frame = trial.frame
    measured = evaluation_curve(frame)
    return {
        "name": trial.name,
        "status": trial.status,
        "error": trial.error,
        "stop_reason": _last_text(frame, _STOP_REASON) or trial.stop_reason,
        "folder": link(trial.folder),
        "varied": {name: json_setting(trial.config.get(name)) for name in varied},
        "iterations": int(frame[ITERATION].max()) if len(frame) else 0,
        "seconds": _last(metric_values(trial, _SECONDS)),
        "metric": _last_and_best(metric_values(trial, run.metric), run.mode),
        "evaluation": json_number(last_evaluation(trial)),
        "summary": {name: _last(metric_values(trial, column)) for name, column in _SUMMARY.items()},
        "x": horizontal_axes(frame, limit),
        "avg": None if measured is None else {"name": measured.name, **_points(measured.points)},
        "time": {part: json_number(seconds) for part, seconds in time_split(frame).items()},
        "timeline": timeline_content(trial.timeline),
        "checkpoints": [
            {
                "path": checkpoint.path,
                "link": link(checkpoint.path),
                "iteration": checkpoint.iteration,
            }
            for checkpoint in trial.checkpoints
        ],
    }


def _is_worth_drawing(panel: ReportPanel, run: StoredRun) -> bool:
    """Whether anything was measured; for settings, whether they changed within a trial."""
    found = [
        values
        for trial in run.trials
        for curve in panel.curves
        if (values := curve.values(trial.frame)) is not None
    ]
    if all(curve.column.startswith("config/") for curve in panel.curves):
        return any(values.nunique() > 1 for values in found)
    return bool(found)


def _points(points: list[tuple[int, float]]) -> dict[str, list]:
    return {"x": [x for x, _ in points], "y": [json_number(y) for _, y in points]}


def _last_and_best(values: list[float], mode: str) -> dict[str, float | None]:
    best = max if mode == "max" else min
    return {"last": _last(values), "best": json_number(best(values)) if values else None}


def _last(values: list[float]) -> float | None:
    return json_number(values[-1]) if values else None


def _last_text(frame: pandas.DataFrame, column: str) -> str:
    if column not in frame:
        return ""
    known = frame[column].dropna()
    return str(known.iloc[-1]) if len(known) else ""


def _paper_settings() -> Mapping[str, Any]:
    """The paper's configuration, which a run's settings are compared with."""
    return flatten_dict(DAPOConfig().to_dict())
