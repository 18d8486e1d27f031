"""What an evaluation says when it is over, in a table and in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from rllib_dapo.evaluation.figures import MEASURES, DataSetMetrics, summary


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationResult:
    """What came out: figures and seconds of sampling, by data set."""

    figures: Mapping[str, DataSetMetrics]
    seconds: Mapping[str, float]


def table_lines(result: EvaluationResult) -> list[str]:
    """The figures, one row for each data set; in brackets the 95 % intervals over problems."""
    header = [
        "",
        *MEASURES,
        "reward",
        "problems",
        "correct",
        "missing",
        "cut off",
        "tokens",
        "seconds",
    ]
    rows = [header]
    for name, found in result.figures.items():
        totals, count = found.totals, found.totals["responses"]
        curves = {m: (c.value[-1], c.low[-1], c.high[-1]) for m, c in found.curves.items()}
        rows.append(
            [
                name,
                *(_figure(curves.get(measure)) for measure in MEASURES),
                _figure(found.reward),
                str(found.num_problems),
                f"{totals['correct']:.0f}/{count:.0f}",
                f"{totals['missing']:.0f}",
                f"{totals['truncated'] / count:.0%}",
                f"{totals['tokens_mean']:.1f}",
                f"{result.seconds[name]:.1f}",
            ]
        )
    samples = next(iter(result.figures.values())).num_samples
    rows[0][1:4] = [f"{measure}@{samples}" for measure in MEASURES]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = [
        "  "
        + "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return lines + _asides(result)


def result_json(result: EvaluationResult) -> str:
    """The figures as JSON: of one data set as they are, of several by name."""
    told = {
        name: {**summary(found), "seconds": result.seconds[name]}
        for name, found in result.figures.items()
    }
    return json.dumps(next(iter(told.values())) if len(told) == 1 else told, indent=2) + "\n"


def _asides(result: EvaluationResult) -> list[str]:
    lines = []
    for name, found in result.figures.items():
        if found.missing:
            reasons = ", ".join(f"{count} {reason}" for reason, count in found.missing.items())
            lines.append(f"  {name}: without a verdict, and so counted as not correct: {reasons}")
        if found.too_long:
            lines.append(
                f"  {name}: left out {found.too_long} problems: longer than rollout.max_prompt_tokens"
            )
        if not found.curves:
            lines.append(
                f"  {name}: its environment grades and does not say what is correct: there is no accuracy"
            )
    return lines


def _figure(value: tuple[float, float, float] | None) -> str:
    return "-" if value is None else f"{value[0]:.4f} [{value[1]:.4f}, {value[2]:.4f}]"
