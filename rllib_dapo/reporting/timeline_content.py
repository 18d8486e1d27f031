"""The timeline of a trial's last iterations: a row for each engine, each Learner and the driver."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rllib_dapo.reporting.time_split import EVALUATION, GENERATION, UPDATE, WEIGHTS
from rllib_dapo.tracking.timeline import DRIVER, Span

# What the driver waits for, by the parts of the split of the time. It waits for engines while
# sampling, and these have rows of their own.
_PARTS = {
    "generation": GENERATION,
    "update": UPDATE,
    "weight_sync": WEIGHTS,
    "evaluation": EVALUATION,
}
_MILLISECONDS = 3  # digits


def timeline_content(timeline: Mapping[int, Sequence[Span]]) -> dict[str, Any] | None:
    """What the page draws.

    Args:
        timeline: Spans by iteration.

    Returns:
        Names of rows, spans as `[row, part, start, seconds]`, and the ends of iterations; times in
        seconds from the first one. None where there is nothing to draw.
    """
    spans = [span for of_iteration in timeline.values() for span in of_iteration]
    if not spans:
        return None
    first = min(span.start for span in spans)
    rows = sorted({span.row for span in spans}, key=_order)
    return {
        "rows": rows,
        "spans": [
            [
                rows.index(span.row),
                _PARTS[span.what],
                round(span.start - first, _MILLISECONDS),
                round(span.stop - span.start, _MILLISECONDS),
            ]
            for span in spans
            if span.what in _PARTS
        ],
        "iterations": [
            [iteration, round(max(span.stop for span in of_iteration) - first, _MILLISECONDS)]
            for iteration, of_iteration in timeline.items()
            if of_iteration
        ],
    }


def _order(row: str) -> tuple[bool, str, int]:
    """The driver first, then engines and Learners by their numbers."""
    number = re.search(r"\d+$", row)
    return row != DRIVER, row.rstrip("0123456789"), int(number[0]) if number else 0
