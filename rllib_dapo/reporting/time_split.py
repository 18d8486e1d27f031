"""Where a trial's time went."""

from __future__ import annotations

import pandas as pd

from rllib_dapo.metrics.iteration_seconds import SECONDS, IterationPart
from rllib_dapo.reporting.report_panels import ENV

GENERATION, SCORING, UPDATE, WEIGHTS, EVALUATION, OTHER = PARTS = (
    "generation",
    "scoring",
    "update",
    "weights",
    "evaluation",
    "other",
)
_TOTAL = "time_this_iter_s"


def time_split(frame: pd.DataFrame) -> dict[str, float]:
    """Splits the time of a trial's iterations by what it was spent on.

    Generation and scoring share the time of sampling in the ratio of the EnvRunners' own clocks.
    What no clock measures (saving checkpoints, the decisions of dynamic sampling, Ray itself) is
    `other`.

    Args:
        frame: A trial's results, one row per iteration.

    Returns:
        Seconds by part; together they are the time of all iterations. Empty where results have no
        seconds of their own: those of earlier versions have moving averages alone.
    """
    if not any(column.startswith(f"{SECONDS}/") for column in frame):
        return {}

    sampling = _seconds(frame, "sampling")
    generation = _sum(frame, f"{ENV}/generation_seconds")
    scoring = _sum(frame, f"{ENV}/scoring_seconds")
    scoring_share = scoring / (generation + scoring) if generation + scoring else 0.0

    split = {
        GENERATION: sampling * (1 - scoring_share),
        SCORING: sampling * scoring_share,
        UPDATE: _seconds(frame, "update"),
        WEIGHTS: _seconds(frame, "weight_sync"),
        EVALUATION: _seconds(frame, "evaluation"),
    }
    return {**split, OTHER: max(0.0, _sum(frame, _TOTAL) - sum(split.values()))}


def _seconds(frame: pd.DataFrame, part: IterationPart) -> float:
    return _sum(frame, f"{SECONDS}/{part}")


def _sum(frame: pd.DataFrame, column: str) -> float:
    return float(frame[column].sum()) if column in frame else 0.0
