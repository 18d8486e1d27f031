"""The result of an evaluation, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rllib_dapo.evaluation.data_set_metrics import MEASURES, DataSetMetrics, as_json_values


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """Metrics of each data set, and seconds that its sampling and scoring took, by its name."""

    metrics: Mapping[str, DataSetMetrics]
    seconds: Mapping[str, float]


def table_lines(result: EvaluationResult) -> list[str]:
    """Formats the metrics as a table, followed by remarks on what needs explaining.

    The table has one row for each data set; 95 % intervals over problems are in brackets.
    """
    samples = next(iter(result.metrics.values())).num_samples
    rows = [
        [
            "",
            f"avg@{samples}",
            "completed and correct",
            *(f"{measure}@{samples}" for measure in MEASURES[1:]),
            "reward",
            "problems",
            "correct",
            "missing",
            "truncated",
            "tokens",
            "seconds",
        ]
    ]

    for name, metrics in result.metrics.items():
        totals, count = metrics.totals, metrics.totals["responses"]
        curves = {m: (c.value[-1], c.low[-1], c.high[-1]) for m, c in metrics.curves.items()}
        rows.append(
            [
                name,
                _with_interval(curves.get("avg")),
                _with_interval(metrics.completed),
                *(_with_interval(curves.get(measure)) for measure in MEASURES[1:]),
                _with_interval(metrics.reward),
                str(metrics.num_problems),
                f"{totals['correct']:.0f}/{count:.0f}",
                f"{totals['missing']:.0f}",
                f"{totals['truncated'] / count:.0%}",
                f"{totals['tokens_mean']:.1f}",
                f"{result.seconds[name]:.1f}",
            ]
        )

    return [*_aligned(rows), *_remarks(result)]


def result_json(result: EvaluationResult) -> str:
    """Formats the metrics as JSON: a single data set's alone, those of several by their names."""
    values = {
        name: {**as_json_values(metrics), "seconds": result.seconds[name]}
        for name, metrics in result.metrics.items()
    }
    shown = next(iter(values.values())) if len(values) == 1 else values
    return json.dumps(shown, indent=2) + "\n"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _remarks(result: EvaluationResult) -> list[str]:
    lines = []
    for name, metrics in result.metrics.items():
        if metrics.missing:
            reasons = ", ".join(f"{count} {reason}" for reason, count in metrics.missing.items())
            lines.append(f"  {name}: responses without a verdict count as not correct: {reasons}")
        if metrics.too_long:
            lines.append(
                f"  {name}: left out {metrics.too_long} problems whose prompts are longer than "
                "rollout.max_prompt_tokens"
            )
        if not metrics.curves:
            lines.append(
                f"  {name}: no accuracy, since its environment gives rewards but does not say what "
                "is correct"
            )
    return lines


def _with_interval(value: tuple[float, float, float] | None) -> str:
    return "-" if value is None else f"{value[0]:.4f} [{value[1]:.4f}, {value[2]:.4f}]"
