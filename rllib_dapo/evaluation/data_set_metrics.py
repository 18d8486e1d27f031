"""From responses to metrics: per problem, over all problems with intervals, and against k."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rllib_dapo.metrics.estimators import (
    average_at,
    bootstrap,
    majority_at,
    mean,
    pass_at,
    sample_counts,
    tally,
)
from rllib_dapo.metrics.metric_table import COMPLETED_AND_CORRECT

if TYPE_CHECKING:
    import pandas
    from numpy.typing import NDArray

# What is measured, in the order of tables and legends.
MEASURES = ("avg", "pass", "maj")

PROBLEM_COLUMNS = {
    "problem_id": "string",
    "seed": "int64",
    "prompt": "string",
    "answer": "string",
    "responses": "int32",
    "correct": "int32",
    "missing": "int32",
    "truncated": "int32",
    "majority": "string",
    COMPLETED_AND_CORRECT: "float64",
    "reward_mean": "float64",
    "tokens_mean": "float64",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyCurve:
    """One measure against the number of samples.

    Attributes:
        value: `[K]`, the mean over problems at each number of samples.
        low: `[K]`, lower ends of the 95 % intervals.
        high: `[K]`, upper ends of the 95 % intervals.
    """

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSetMetrics:
    """Metrics of an evaluation on one data set.

    Attributes:
        num_samples: Number of responses to each problem, `n`.
        num_problems: Number of problems that have responses.
        too_long: Number of problems without responses, because their prompts are longer than
            `rollout.max_prompt_tokens`.
        counts: The `K` numbers of samples of the curves; the last is `num_samples`.
        curves: A curve for each measure. `maj` is absent if the environment finds no predictions;
            all are absent if it only grades.
        completed: Mean over problems of the share of responses that are correct and ended by
            themselves, and the ends of its interval; None where there is no accuracy. As in avg@k,
            a response without a verdict is not correct.
        reward: Mean reward of the responses that have a verdict, and the ends of its interval; None
            if no response has one.
        totals: Number of responses, and of those that are correct, have no verdict, or are
            truncated; mean length of a response in tokens.
        missing: Number of missing verdicts, by the first words of their reasons.
        per_problem: A row for each problem, see `problem_columns`.
    """

    num_samples: int
    num_problems: int
    too_long: int
    counts: tuple[int, ...]
    curves: Mapping[str, AccuracyCurve]
    completed: tuple[float, float, float] | None
    reward: tuple[float, float, float] | None
    totals: Mapping[str, float]
    missing: Mapping[str, int]
    per_problem: Sequence[dict[str, Any]]


def data_set_metrics(
    responses: pandas.DataFrame, *, num_samples: int, num_problems: int, seed: int
) -> DataSetMetrics:
    """Computes the metrics of one data set.

    Args:
        responses: One row for each response, as `ResponseParts.read` returns them.
        num_samples: Number of responses to each problem.
        num_problems: Number of problems that were asked.
        seed: Seed of the draws for the intervals.

    Raises:
        ValueError: If there is no response.
    """
    if responses.empty:
        raise ValueError("nothing to evaluate: no prompt fits rollout.max_prompt_tokens")

    problems = [rows for _, rows in responses.groupby("seed", sort=False)]
    measures = _measures(responses)
    counts = sample_counts(num_samples)
    values = np.array([_values(rows, num_samples, counts, measures) for rows in problems])
    rewards = [rows["reward"].mean() for rows in problems if rows["reward"].notna().any()]
    missing = responses["missing_reason"].dropna()

    return DataSetMetrics(
        num_samples=num_samples,
        num_problems=len(problems),
        too_long=num_problems - len(problems),
        counts=counts,
        curves=_curves(values, measures, len(counts), seed),
        completed=(
            _with_interval([_completed_share(rows, num_samples) for rows in problems], seed)
            if measures
            else None
        ),
        reward=_with_interval(rewards, seed),
        totals={
            "responses": len(responses),
            "correct": int(_is_true(responses).sum()),
            "missing": len(missing),
            "truncated": int((responses["finish_reason"] == "length").sum()),
            "tokens_mean": mean(responses["tokens"].tolist()),
        },
        missing=dict(sorted(Counter(reason.partition(":")[0] for reason in missing).items())),
        per_problem=[_problem_row(rows, num_samples, measures) for rows in problems],
    )


def problem_columns(metrics: DataSetMetrics) -> dict[str, str]:
    """Names and Arrow types of the columns of `DataSetMetrics.per_problem`.

    The last ones are the measures that the data set has, each at all samples.
    """
    return PROBLEM_COLUMNS | {
        f"{measure}@{metrics.num_samples}": "float64" for measure in metrics.curves
    }


def as_json_values(metrics: DataSetMetrics) -> dict[str, Any]:
    """The metrics as plain values for JSON; a measure that the data set does not have is None."""
    k = metrics.num_samples
    curves = metrics.curves

    measured: dict[str, Any] = {
        f"{m}@{k}": float(curves[m].value[-1]) if m in curves else None for m in MEASURES
    }
    intervals = {f"{m}@{k}": [float(c.low[-1]), float(c.high[-1])] for m, c in curves.items()}
    if metrics.completed is not None:
        intervals[COMPLETED_AND_CORRECT] = list(metrics.completed[1:])

    return {
        **measured,
        COMPLETED_AND_CORRECT: None if metrics.completed is None else metrics.completed[0],
        "problems": metrics.num_problems,
        "intervals": intervals,
        "curves": {
            m: dict(zip(map(str, metrics.counts), c.value.tolist(), strict=True))
            for m, c in curves.items()
        },
        "reward_mean": None if metrics.reward is None else metrics.reward[0],
        **metrics.totals,
        "missing_by_reason": dict(metrics.missing),
        "prompts_too_long": metrics.too_long,
    }


def _measures(responses: pandas.DataFrame) -> tuple[str, ...]:
    """The measures that a data set has."""
    if responses["is_correct"].isna().all():
        # With rewards, the environment only grades, and there is no accuracy. Without any reward
        # all verdicts are missing, and a missing verdict does not count as correct.
        return () if responses["reward"].notna().any() else ("avg", "pass")
    return MEASURES if (responses["prediction"] != "").any() else MEASURES[:2]


def _values(
    rows: pandas.DataFrame, num_samples: int, counts: Sequence[int], measures: Sequence[str]
) -> NDArray[np.float64]:
    """`[M * K]`: the measures of one problem, each at all counts."""
    correct = int(_is_true(rows).sum())
    votes = _votes(rows)
    at = {
        "avg": lambda k: average_at(correct, num_samples),
        "pass": lambda k: pass_at(correct, num_samples, k),
        "maj": lambda k: majority_at(votes, num_samples, k),
    }
    return np.array([at[measure](k) for measure in measures for k in counts])


def _curves(
    values: NDArray[np.float64], measures: Sequence[str], num_counts: int, seed: int
) -> dict[str, AccuracyCurve]:
    """Means over problems with their intervals.

    Args:
        values: `[P, M * K]`, from `_values` for each problem.
        measures: Names of the `M` measures.
        num_counts: `K`.
        seed: Seed of the draws for the intervals.
    """
    if not measures:
        return {}

    means = np.array([mean(column) for column in values.T])
    low, high = bootstrap(values, seed=seed)

    columns = {
        measure: slice(i * num_counts, (i + 1) * num_counts) for i, measure in enumerate(measures)
    }
    return {
        measure: AccuracyCurve(value=means[place], low=low[place], high=high[place])
        for measure, place in columns.items()
    }


def _problem_row(
    rows: pandas.DataFrame, num_samples: int, measures: Sequence[str]
) -> dict[str, Any]:
    first = rows.iloc[0]
    predictions = Counter(prediction for prediction in rows["prediction"] if prediction)
    reward = rows["reward"].mean()
    values = _values(rows, num_samples, [num_samples], measures)

    return {
        **{name: first[name] for name in ("problem_id", "prompt", "answer")},
        "seed": int(first["seed"]),
        "responses": len(rows),
        "correct": int(_is_true(rows).sum()),
        "missing": int(rows["missing_reason"].notna().sum()),
        "truncated": int((rows["finish_reason"] == "length").sum()),
        # Of predictions that tie, the one that was given first.
        "majority": predictions.most_common(1)[0][0] if predictions else None,
        COMPLETED_AND_CORRECT: _completed_share(rows, num_samples) if measures else None,
        "reward_mean": None if math.isnan(reward) else float(reward),
        "tokens_mean": float(rows["tokens"].mean()),
        **{f"{m}@{num_samples}": float(value) for m, value in zip(measures, values, strict=True)},
    }


def _votes(rows: pandas.DataFrame) -> Any:
    verdicts = [
        None if verdict is None or verdict != verdict else bool(verdict)
        for verdict in rows["is_correct"]
    ]
    return tally(rows["prediction"].tolist(), verdicts)


def _with_interval(values: Sequence[float], seed: int) -> tuple[float, float, float] | None:
    if not values:
        return None

    low, high = bootstrap(np.array(values)[:, None], seed=seed)
    return mean(values), float(low[0]), float(high[0])


def _completed_share(rows: pandas.DataFrame, num_samples: int) -> float:
    """The share of the responses to one problem that are correct and ended by themselves."""
    completed = _is_true(rows) & (rows["finish_reason"] != "length")
    return average_at(int(completed.sum()), num_samples)


def _is_true(rows: pandas.DataFrame) -> Any:
    """Which responses are correct; one with a missing verdict is not."""
    return rows["is_correct"].eq(True)
