"""Every figure that a run's results hold, as curves over iterations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rllib_dapo.metrics.metric_table import METRICS, NUM_GRADIENT_UPDATES_LIFETIME
from rllib_dapo.reporting.downsample import downsampled_indices, points_per_curve
from rllib_dapo.reporting.report_panels import ENV, ITERATION, LEARNER, PlottedCurve, ReportPanel
from rllib_dapo.reporting.stored_run import StoredTrial

_UPDATES = f"{LEARNER}/{NUM_GRADIENT_UPDATES_LIFETIME}"
_SECONDS = "time_total_s"
_TOKENS_PER_GROUP, _GROUPS = f"{ENV}/tokens_per_accepted_group", f"{ENV}/groups_accepted"

_AT_START, _EVALUATION = "evaluation_at_start/", "evaluation/"
# Settings, what only Tune needs, and what stands in other places of a report.
_LEFT_OUT = ("config/", _AT_START, "engines/")
_BOOKKEEPING = {
    ITERATION,
    "timestamp",
    "pid",
    "iterations_since_restore",
    "time_since_restore",
    "done",
}
_FEWEST_FURTHER_POINTS = 30  # of a curve that no panel draws, where there are thousands of them
_DIGITS = 5


class CurveLimits(NamedTuple):
    """How many points a curve may have; None for all of them.

    Attributes:
        panels: Points of a curve that a panel of the page draws.
        others: Points of any other curve.
    """

    panels: int | None
    others: int | None


def curve_name(curve: PlottedCurve) -> str:
    """The name under which a panel's curve is found among all figures."""
    return f"{curve.column} / {curve.over}" if curve.over else curve.column


def figure_names(trials: Sequence[StoredTrial], panels: Iterable[ReportPanel]) -> list[str]:
    """Lists the figures of a run: first those of the table of metrics, then RLlib's own.

    Args:
        trials: Trials of the run.
        panels: What the page draws; their curves are listed whatever they are made from.

    Returns:
        Names as results have them, with slashes. Evaluations before training have none of their
        own: they are the points at iteration 0 of the evaluations after it.
    """
    found = {
        str(column)
        for trial in trials
        for column in trial.frame.columns
        if _is_figure(str(column)) and _has_numbers(trial.frame, str(column))
    }
    found |= {curve_name(curve) for panel in panels for curve in panel.curves}

    places = {full_name: place for place, full_name in enumerate(_known_metrics())}
    return sorted(found, key=lambda name: (places.get(_table_name(name), len(places)), name))


def figures_list(names: Iterable[str]) -> list[dict[str, str]]:
    """Says of each figure what the table of metrics says: its unit and its meaning."""
    known = _known_metrics()
    described = []
    for name in names:
        unit, meaning = known.get(_table_name(name), ("", ""))
        described.append({"name": name, "unit": "" if unit == "1" else unit, "meaning": meaning})
    return described


def curve_limits(
    trials: Sequence[StoredTrial], names: Sequence[str], panels: Sequence[ReportPanel]
) -> CurveLimits:
    """How many points there is room for on a page with that many trials and figures."""
    drawn = len({curve_name(curve) for panel in panels for curve in panel.curves})
    num_others = len(trials) * (len(names) - drawn)
    return CurveLimits(
        panels=points_per_curve(len(trials) * drawn),
        others=points_per_curve(num_others, fewest=_FEWEST_FURTHER_POINTS),
    )


def thinning(trials: Sequence[StoredTrial], limits: CurveLimits) -> dict[str, int] | None:
    """What the page says of curves that have fewer points than there were iterations."""
    longest = max((len(trial.frame) for trial in trials), default=0)
    if limits.panels is None or limits.others is None:
        return None
    if longest <= min(limits.panels, limits.others):
        return None
    return {"longest": longest, "panels": limits.panels, "others": limits.others}


def trial_figures(
    trial: StoredTrial,
    names: Sequence[str],
    panels: Sequence[ReportPanel],
    limits: CurveLimits,
) -> dict[str, dict[str, list]]:
    """The curves of one trial.

    Args:
        trial: The trial.
        names: Figures of the run, as `figure_names` gives them.
        panels: What the page draws.
        limits: How many points to keep.

    Returns:
        Curves by name: iterations `x` and values `y`. Figures that this trial does not have are
        not there.
    """
    drawn = {curve_name(curve): curve for panel in panels for curve in panel.curves}
    found: dict[str, dict[str, list]] = {}
    for name in names:
        if name not in drawn and not _has_numbers(trial.frame, name):
            continue
        values = drawn.get(name, PlottedCurve(name)).values(trial.frame)
        if values is None:
            continue
        values = values[~values.isin([math.inf, -math.inf])]
        if values.empty:
            continue
        values = _from_the_start(trial.frame, name, values)

        limit = limits.panels if name in drawn else limits.others
        kept = values.iloc[downsampled_indices(values.to_numpy(), limit)]
        found[name] = {"x": [int(x) for x in kept.index], "y": json_numbers(kept)}
    return found


def horizontal_axes(frame: pd.DataFrame, limit: int | None) -> dict[str, list]:
    """What curves can be drawn over, and how these belong together: one entry per kept iteration.

    Curves hold iterations alone. The page finds the update, the sampled token or the second of an
    iteration here, and interpolates between those that were left out.

    Args:
        frame: A trial's results, one row per iteration.
        limit: Largest number of entries; None keeps all.

    Returns:
        Lists of the same length: `iteration`, `update` (gradient updates so far), `token` (tokens
        sampled for training so far) and `second`. Empty where results do not have them.
    """
    steps = downsampled_indices(frame[ITERATION].to_numpy(), limit)
    updates = frame[_UPDATES].ffill() if _UPDATES in frame else None
    seconds = frame.get(_SECONDS)
    axes = {"update": updates, "token": sampled_tokens(frame), "second": seconds}
    return {
        "iteration": [int(step) for step in frame[ITERATION].iloc[steps]],
        **{
            name: [] if values is None else json_numbers(values.iloc[steps])
            for name, values in axes.items()
        },
    }


def sampled_tokens(frame: pd.DataFrame) -> pd.Series | None:
    """Tokens that were sampled for training until the end of each iteration.

    Args:
        frame: A trial's results, one row per iteration.

    Returns:
        The running sum; None where results do not tell.
    """
    if _TOKENS_PER_GROUP not in frame or _GROUPS not in frame:
        return None
    # The metric's own divisor is at least 1.
    of_iteration = frame[_TOKENS_PER_GROUP] * frame[_GROUPS].clip(lower=1)
    return of_iteration.fillna(0).cumsum()


def json_numbers(values: Iterable[float]) -> list[float | None]:
    """Numbers as JSON can hold them."""
    return [json_number(value) for value in values]


def json_number(value: float | None) -> float | None:
    """A number as JSON can hold it, rounded to what a picture needs.

    Args:
        value: Any float, or None.

    Returns:
        A whole number as it is, any other rounded to five digits; None for None, NaN and
        infinities.
    """
    if value is None or not math.isfinite(value):
        return None
    return value if float(value).is_integer() else float(f"{value:.{_DIGITS}g}")


def _known_metrics() -> Mapping[str, tuple[str, str]]:
    """Unit and meaning of our own metrics by their full names."""
    return {f"{m.source}/{m.name}": (m.unit, m.meaning) for m in METRICS}


def _table_name(name: str) -> str:
    """The name in the table of metrics: there, a star stands for what an environment has named."""
    plain = name.removeprefix(_EVALUATION)
    starred = (known for known in _known_metrics() if known.endswith("*"))
    return next((known for known in starred if plain.startswith(known[:-1])), plain)


def _is_figure(column: str) -> bool:
    return not column.startswith(_LEFT_OUT) and column not in _BOOKKEEPING


def _has_numbers(frame: pd.DataFrame, column: str) -> bool:
    """Whether a column has numbers; those of evaluations stand among results without any."""
    if column not in frame:
        return False
    values = frame[column]
    if pd.api.types.is_numeric_dtype(values):
        return bool(np.isfinite(values.astype(float)).any())
    known: Any = values.dropna()
    return bool(len(known)) and all(isinstance(value, int | float) for value in known)


def _from_the_start(frame: pd.DataFrame, name: str, values: pd.Series) -> pd.Series:
    """An evaluation's curve with the one before training, which every result repeats."""
    column = _AT_START + name.removeprefix(_EVALUATION)
    if not name.startswith(_EVALUATION) or column not in frame:
        return values
    known = frame[column].dropna()
    if known.empty or not math.isfinite(float(known.iloc[0])):
        return values
    return pd.concat([pd.Series([float(known.iloc[0])], index=[0]), values])
