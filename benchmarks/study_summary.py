"""What the runs of the study say: curves, ends, speed-ups, and whether the claims hold."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from study_arms import ARMS, DAPO, GRPO
from study_runs import RunKey
from study_statistics import (
    difference_interval,
    iqm,
    iqm_interval,
    speed_up,
    speed_up_interval,
)
from study_tasks import TASKS

Runs = Mapping[RunKey, Mapping[str, Any]]
Cell = tuple[str, str, float]  # task, arm, learning rate

HOLDS, HOLDS_NOT, NOT_MEASURED = "holds", "does not hold", "not measured"
HALF_THE_UPDATES = "DAPO comes to GRPO's best accuracy in half of the updates"
HIGHER_END = "DAPO ends at a higher accuracy than GRPO"
COSTS = ("updates", "tokens", "seconds")
# Beside accuracy, as medians over the seeds.
CURVES = (
    *COSTS,
    "responses",
    "completed_and_correct",
    "response_length",
    "entropy",
    "gradient_norm",
    "gradient_norm_variance",
)


def summary(
    runs: Runs, *, protocol: Mapping[str, Any], ceilings: Mapping[str, float]
) -> dict[str, Any]:
    """The figures of all cells, of the arms over all tasks, and the claims.

    Args:
        runs: The runs that are there.
        protocol: The study's protocol.
        ceilings: Highest accuracy of each task.
    """
    cells: dict[Cell, list[Mapping[str, Any]]] = defaultdict(list)
    for key in sorted(runs, key=lambda key: key.seed):
        cells[key.task, key.arm, key.lr].append(runs[key]["columns"])

    rows = [_cell(cell, cells) for cell in sorted(cells, key=_order)]
    return {
        "arms": {name: {"title": arm.title, "part": arm.part} for name, arm in ARMS.items()},
        "tasks": {name: task.title for name, task in TASKS.items()},
        "ceilings": dict(ceilings),
        "seconds_a_run": _median([run["total_seconds"] for run in runs.values()]),
        "cells": rows,
        "best_rates": _best_rates(rows),
        "over_tasks": _over_tasks(cells, protocol["primary_lr"], ceilings),
        "claims": [claim for task in TASKS for claim in claims(task, rows, protocol)],
    }


def claims(
    task: str, rows: Sequence[Mapping[str, Any]], protocol: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The paper's two claims on a task, each with its figure, interval, margin and verdict.

    Args:
        task: Name of the task.
        rows: The cells.
        protocol: The study's protocol.
    """
    found = {row["arm"]: row for row in rows if _is_primary(row, task, protocol)}
    enough = all(
        found.get(arm, {}).get("seeds", 0) >= protocol["least_seeds"] for arm in (GRPO, DAPO)
    )
    dapo = found.get(DAPO, {})
    return [
        _claim(
            HALF_THE_UPDATES,
            task,
            dapo.get("speed_up_updates"),
            margin=protocol["margin_speed_up"],
            no_difference=1.0,
            enough=enough,
        ),
        _claim(
            HIGHER_END,
            task,
            dapo.get("difference"),
            margin=protocol["margin_accuracy"],
            no_difference=0.0,
            enough=enough,
        ),
    ]


def _claim(
    text: str,
    task: str,
    figure: Mapping[str, float | None] | None,
    *,
    margin: float,
    no_difference: float,
    enough: bool,
) -> dict[str, Any]:
    figure = figure or {"value": None, "low": None, "high": None}
    value, low = figure["value"], figure["low"]
    verdict = NOT_MEASURED
    if enough and value is not None and low is not None:
        verdict = HOLDS if value >= margin and low > no_difference else HOLDS_NOT
    return {"claim": text, "task": task, **figure, "margin": margin, "verdict": verdict}


def _is_primary(row: Mapping[str, Any], task: str, protocol: Mapping[str, Any]) -> bool:
    return row["task"] == task and row["lr"] == protocol["primary_lr"]


def _cell(cell: Cell, cells: Mapping[Cell, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    task, arm, lr = cell
    runs, base = cells[cell], cells.get((task, GRPO, lr), [])
    accuracy = _of(runs, "accuracy")
    intervals = [iqm_interval([accuracy[:, point]]) for point in range(accuracy.shape[1])]
    row: dict[str, Any] = {
        "task": task,
        "arm": arm,
        "lr": lr,
        "seeds": len(runs),
        "accuracy": _listed(iqm(accuracy, axis=0)),
        "low": _listed([low for low, _ in intervals]),
        "high": _listed([high for _, high in intervals]),
        "ends": _listed(accuracy[:, -1]),
    }
    row |= {name: _listed(_medians(_of(runs, name))) for name in CURVES}
    if not base or arm == GRPO:
        return row

    for cost in COSTS:
        sides = [(_of(side, cost), _of(side, "accuracy")) for side in (base, runs)]
        row[f"speed_up_{cost}"] = _figure(speed_up(*sides), speed_up_interval(*sides))
    ends, base_ends = accuracy[:, -1], _of(base, "accuracy")[:, -1]
    row["difference"] = _figure(
        float(iqm(ends) - iqm(base_ends)), difference_interval(ends, base_ends)
    )
    return row


def _best_rates(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each arm's rate with the highest end, for each task, and that end."""
    best: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        place = row["task"], row["arm"]
        if place not in best or row["accuracy"][-1] > best[place]["accuracy"][-1]:
            best[place] = row
    tried = {
        place: sorted(row["lr"] for row in rows if (row["task"], row["arm"]) == place)
        for place in best
    }
    return [
        {
            "task": task,
            "arm": arm,
            "lr": row["lr"],
            "tried": tried[task, arm],
            "accuracy": row["accuracy"][-1],
            "low": row["low"][-1],
            "high": row["high"][-1],
        }
        for (task, arm), row in best.items()
    ]


def _over_tasks(
    cells: Mapping[Cell, Sequence[Mapping[str, Any]]], lr: float, ceilings: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Ends over their ceilings, of arms that were tried on every task: tasks are strata."""
    rows = []
    for arm in ARMS:
        if not all(cells.get((task, arm, lr)) for task in TASKS):
            continue
        strata = [_of(cells[task, arm, lr], "accuracy")[:, -1] / ceilings[task] for task in TASKS]
        value = float(iqm(np.concatenate(strata)))
        seeds = min(map(len, strata))
        rows.append({"arm": arm, "seeds": seeds, **_figure(value, iqm_interval(strata))})
    return rows


def _order(cell: Cell) -> tuple[int, float, int]:
    task, arm, lr = cell
    return list(TASKS).index(task), lr, list(ARMS).index(arm)


def _of(runs: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    """A column of several runs, `[seeds, points]`."""
    return np.asarray([run[name] for run in runs], dtype=float)


def _medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Medians over the seeds; before training, when nothing is known of it yet, what comes next."""
    known = ~np.isnan(values).all(axis=0)
    medians = np.full(values.shape[1], np.nan)
    medians[known] = np.nanmedian(values[:, known], axis=0)
    if not known[0]:
        medians[0] = medians[min(1, len(medians) - 1)]
    return medians


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _figure(value: float, interval: tuple[float, float]) -> dict[str, float | None]:
    value, low, high = (_listed([number])[0] for number in (value, *interval))
    return {"value": value, "low": low, "high": high}


def _listed(values: Any) -> list[float | None]:
    """Numbers as JSON may hold them."""
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in np.asarray(values).tolist()]
