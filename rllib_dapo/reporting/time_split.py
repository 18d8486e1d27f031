"""Where a trial's time went."""

from __future__ import annotations

import pandas as pd

from rllib_dapo.metrics import metric_table as metrics
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
_EMA_COEFFICIENT = 0.01  # RLlib's default for timers


def time_split(frame: pd.DataFrame) -> dict[str, float]:
    """Splits the time of a trial's iterations by what it was spent on.

    Generation and scoring share the time of sampling in the ratio of the EnvRunners' own clocks.
    What no timer measures (saving checkpoints, an evaluation before training, the decisions of
    dynamic sampling, Ray itself) is `other`.

    Args:
        frame: A trial's results, one row per iteration.

    Returns:
        Seconds by part; together they are the time of all iterations.
    """
    sampling = _sampling_seconds(frame)
    generation = _sum(frame, f"{ENV}/generation_seconds")
    scoring = _sum(frame, f"{ENV}/scoring_seconds")
    scoring_share = scoring / (generation + scoring) if generation + scoring else 0.0

    split = {
        GENERATION: sampling * (1 - scoring_share),
        SCORING: sampling * scoring_share,
        UPDATE: float(timer_seconds(frame, "timers/learner_update_timer").sum()),
        WEIGHTS: float(timer_seconds(frame, "timers/synch_weights").sum()),
        EVALUATION: _evaluation_seconds(frame),
    }
    return {**split, OTHER: max(0.0, _sum(frame, _TOTAL) - sum(split.values()))}


def timer_seconds(frame: pd.DataFrame, timer: str) -> pd.Series:
    """Recovers what a timer measured in each iteration.

    RLlib reports a timer as a moving average with a coefficient of 0.01, so slow that the first
    iteration still shows after hundreds. Two successive averages give the measurement between them:
    `x_t = (ema_t - 0.99 ema_{t-1}) / 0.01`.

    Args:
        frame: A trial's results, one row per iteration.
        timer: Column of the timer.

    Returns:
        Seconds of each iteration; 0 where the timer did not run.
    """
    if timer not in frame:
        return pd.Series(0.0, index=frame.index)

    averages = frame[timer].dropna()
    before = averages.shift()
    measured = (averages - (1 - _EMA_COEFFICIENT) * before) / _EMA_COEFFICIENT

    measured = measured.where(averages != before, 0.0)  # an unchanged average: nothing measured
    measured = measured.fillna(averages)  # the first average is the measurement itself
    return measured.clip(lower=0.0).reindex(frame.index, fill_value=0.0)


def _evaluation_seconds(frame: pd.DataFrame) -> float:
    """Estimates the time of all evaluations from those whose time was reported.

    RLlib reports an evaluation's time one iteration late, and so never that of the last one. The
    mean of the others stands in for it.
    """
    columns = [name for name in frame.columns if name.startswith("evaluation/env_runners/")]
    count = int(frame[columns].notna().any(axis=1).sum()) if columns else 0

    measured = timer_seconds(frame, "timers/evaluation_iteration")
    measured = measured[measured > 0]
    return float(measured.mean() * count) if len(measured) else 0.0


def _sampling_seconds(frame: pd.DataFrame) -> float:
    """Wall-clock seconds of sampling: sampled tokens over their rate."""
    names = ("num_episodes", metrics.RESPONSE_LENGTH_MEAN, metrics.ROLLOUT_TOKENS_PER_SECOND)
    columns = [f"{ENV}/{name}" for name in names]
    if not set(columns) <= set(frame.columns):
        return 0.0
    responses, length, rate = (frame[column] for column in columns)
    return float((responses * length / rate.where(rate > 0)).sum())


def _sum(frame: pd.DataFrame, column: str) -> float:
    return float(frame[column].sum()) if column in frame else 0.0
