"""The study of sample efficiency as text: verdicts, tables of arms, learning rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PARTS = {
    "methods": "Methods",
    "table1": "The rows of the paper's Table 1, each with those before it",
    "left_out": "DAPO without each of its techniques",
}
# With what an arm of each part is shown beside.
BESIDE = {"methods": (), "table1": ("grpo",), "left_out": ("dapo",)}


def verdicts(record: Mapping[str, Any]) -> list[str]:
    """A sentence for each claim: what the paper says, and what came out."""
    lines = []
    for claim in record["claims"]:
        figure = "" if claim["value"] is None else f": {_figure(claim)}, asked {claim['margin']:g}"
        task = record["tasks"][claim["task"]]
        lines.append(f"- **{claim['claim']}**, {task}: {claim['verdict']}{figure}.")
    return lines


def arms_tables(record: Mapping[str, Any], task: str) -> list[str]:
    """The tables of a task at the rate that all arms are compared at."""
    lr = record["protocol"]["primary_lr"]
    rows = {row["arm"]: row for row in record["cells"] if row["task"] == task and row["lr"] == lr}
    lines: list[str] = []
    for part, title in PARTS.items():
        names = [name for name, arm in record["arms"].items() if arm["part"] == part]
        measured = [name for name in names if name in rows]
        if not measured:
            lines += [f"{title}: not measured.", ""]
            continue
        lines += [f"{title}:", "", *_table([*BESIDE[part], *measured], rows, record), ""]
    return lines


def _table(
    names: Sequence[str], rows: Mapping[str, Mapping[str, Any]], record: Mapping[str, Any]
) -> list[str]:
    lines = [
        "| | seeds | accuracy at the end | over GRPO's | times fewer updates | times fewer tokens "
        "| times less time | completed and correct | tokens of a response | entropy | variance of "
        "the gradient's norm |",
        "| --- " * 11 + "|",
    ]
    for name in names:
        if name not in rows:
            continue
        row = rows[name]
        cells = (
            record["arms"][name]["title"],
            str(row["seeds"]),
            _interval(row["accuracy"][-1], row["low"][-1], row["high"][-1]),
            _figure(row.get("difference"), signed=True),
            *(
                _figure(row.get(f"speed_up_{cost}"), never=True)
                for cost in ("updates", "tokens", "seconds")
            ),
            _number(row["completed_and_correct"][-1], ".3f"),
            _number(row["response_length"][-1], ".1f"),
            _number(row["entropy"][-1], ".2f"),
            _number(row["gradient_norm_variance"][-1], ".2g"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def rates_table(record: Mapping[str, Any], task: str) -> list[str]:
    """Accuracy at the end by arm and learning rate."""
    rates = sorted(record["protocol"]["learning_rates"])
    cells = {(row["arm"], row["lr"]): row for row in record["cells"] if row["task"] == task}
    lines = [
        f"| learning rate | {' | '.join(f'{rate:g}' for rate in rates)} |",
        "| --- " * (len(rates) + 1) + "|",
    ]
    for name, arm in record["arms"].items():
        found = [cells.get((name, rate)) for rate in rates]
        if not any(found):
            continue
        ends = [
            f"{_interval(row['accuracy'][-1], row['low'][-1], row['high'][-1])}, "
            f"{row['seeds']} seeds"
            if row
            else "not measured"
            for row in found
        ]
        lines.append(f"| {arm['title']} | {' | '.join(ends)} |")
    return lines


def over_tasks_table(record: Mapping[str, Any]) -> list[str]:
    """Ends over their ceilings, over all tasks."""
    if not record["over_tasks"]:
        return ["Over all tasks: not measured, since no arm was tried on each of them."]
    lines = ["| over all tasks | seeds of each | accuracy at the end over the ceiling |"]
    lines.append("| --- | --- | --- |")
    for row in record["over_tasks"]:
        title = record["arms"][row["arm"]]["title"]
        lines.append(f"| {title} | {row['seeds']} | {_figure(row)} |")
    return lines


def _figure(
    figure: Mapping[str, float | None] | None, *, signed: bool = False, never: bool = False
) -> str:
    if figure is None or figure["value"] is None:
        return ""
    if never and figure["value"] == 0:
        return "never there"
    return _interval(figure["value"], figure["low"], figure["high"], signed=signed)


def _interval(
    value: float | None, low: float | None, high: float | None, *, signed: bool = False
) -> str:
    form = "+.3f" if signed else ".3f" if value is not None and abs(value) < 1 else ".2f"
    ends = "" if low is None else f" ({_number(low, form)} to {_number(high, form)})"
    return _number(value, form) + ends


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
