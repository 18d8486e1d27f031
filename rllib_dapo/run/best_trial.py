"""Which trial of a run is the best: the one rule that the terminal and the report go by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import pandas as pd


def last_value(frame: pd.DataFrame | None, metric: str) -> float | None:
    """A metric's last finite value over a trial.

    A metric of evaluations is not in every result, so the last result need not have it.

    Args:
        frame: Results of the trial, one row per iteration.
        metric: Name of the metric, with slashes.

    Returns:
        The value; None if the trial has none.
    """
    if frame is None or metric not in frame:
        return None
    values = pd.to_numeric(frame[metric], errors="coerce").dropna()
    finite = values[values.map(math.isfinite)]
    return float(finite.iloc[-1]) if len(finite) else None


def best_first(values: Sequence[float | None], mode: Literal["max", "min"]) -> list[int]:
    """Ranks trials by the last values of their metric.

    Args:
        values: A value for each trial; None for a trial that has none.
        mode: Whether more is better, or less.

    Returns:
        Places in `values`, from the best to the worst; trials without a value come last, and of two
        equal ones the first comes first.
    """
    sign = -1.0 if mode == "max" else 1.0

    def badness(place: int) -> float:
        value = values[place]
        return math.inf if value is None else sign * value

    return sorted(range(len(values)), key=badness)
