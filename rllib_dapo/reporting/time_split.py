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
_EMA_COEFFICIENT = 0.01  # RLlib's, of every timer


def time_split(frame: pd.DataFrame) -> dict[str, float]:
    """Seconds of a trial's iterations by what they were spent on; they add up to all of them.

    Generation and scoring share the time of sampling as they share the EnvRunners' time. What no
    timer counts (saving checkpoints, an evaluation before training, dynamic sampling's decisions,
    Ray) is `other`.

    Args:
        frame: One row an iteration, as RLlib reports it.

    Returns:
        Seconds, by part.
    """
    total = _sum(frame, _TOTAL)
    sampling = _sampling_seconds(frame)
    generation, scoring = (
        _sum(frame, f"{ENV}/generation_seconds"),
        _sum(frame, f"{ENV}/scoring_seconds"),
    )
    share = scoring / (generation + scoring) if generation + scoring else 0.0
    split = {
        GENERATION: sampling * (1 - share),
        SCORING: sampling * share,
        UPDATE: float(timed(frame, "timers/learner_update_timer").sum()),
        WEIGHTS: float(timed(frame, "timers/synch_weights").sum()),
        EVALUATION: _evaluation_seconds(frame),
    }
    return {**split, OTHER: max(0.0, total - sum(split.values()))}


def timed(frame: pd.DataFrame, timer: str) -> pd.Series:
    """What a timer measured in each iteration, in seconds; 0 where it did not run.

    RLlib reports timers as moving averages that forget a hundredth at each measurement, so slow
    that the first iteration still tells after hundreds. Two averages that follow each other give
    the measurement between them.

    Args:
        frame: One row an iteration.
        timer: A column of it.
    """
    if timer not in frame:
        return pd.Series(0.0, index=frame.index)
    known = frame[timer].dropna()
    before = known.shift()
    measured = (known - (1 - _EMA_COEFFICIENT) * before) / _EMA_COEFFICIENT
    measured = measured.where(known != before, 0.0).fillna(
        known
    )  # unchanged: not measured; the first is itself
    return measured.clip(lower=0.0).reindex(frame.index, fill_value=0.0)


def _evaluation_seconds(frame: pd.DataFrame) -> float:
    """An evaluation's time is reported an iteration late, and the last one's never: the mean stands for it."""
    columns = [c for c in frame.columns if c.startswith("evaluation/env_runners/")]
    count = int(frame[columns].notna().any(axis=1).sum()) if columns else 0
    measured = timed(frame, "timers/evaluation_iteration")
    measured = measured[measured > 0]
    return float(measured.mean() * count) if len(measured) else 0.0


def _sampling_seconds(frame: pd.DataFrame) -> float:
    """Time on the clock: sampled tokens over their rate."""
    names = ("num_episodes", metrics.RESPONSE_LENGTH_MEAN, metrics.ROLLOUT_TOKENS_PER_SECOND)
    needed = [f"{ENV}/{name}" for name in names]
    if not set(needed) <= set(frame.columns):
        return 0.0
    responses, length, rate = (frame[name] for name in needed)
    return float((responses * length / rate.where(rate > 0)).sum())


def _sum(frame: pd.DataFrame, column: str) -> float:
    return float(frame[column].sum()) if column in frame else 0.0
