"""When a race compares its points, and the words that say a trial was dropped by one."""

from __future__ import annotations

import re

_DROPPED = "race: worse than the best point at iteration"


def milestones(
    max_t: int, *, grace_period: int | None = None, interval: int | None = None, step: int = 1
) -> tuple[int, ...]:
    """The iterations at which points are compared: none at the end, where nothing is left to save.

    Args:
        max_t: Iterations of a trial.
        grace_period: The first of them; by default a sixth of the trial, rounded up to a multiple
            of `step`.
        interval: Iterations from one to the next; by default as many as `grace_period`.
        step: Iterations from one value of the metric to the next.
    """
    sixth = -(-max_t // 6)
    first = grace_period or -(-sixth // step) * step
    return tuple(range(first, max_t, interval or first))


def dropped_reason(iteration: int) -> str:
    """What the last result of a dropped trial says as `stop_reason`."""
    return f"{_DROPPED} {iteration}"


def is_dropped(reason: object) -> bool:
    """Whether a `stop_reason` is that of a dropped trial."""
    return isinstance(reason, str) and reason.startswith(_DROPPED)


def dropped_at(reason: object) -> int | None:
    """The iteration at which a trial was dropped; None if it was not."""
    found = re.fullmatch(rf"{_DROPPED} (\d+)", reason) if isinstance(reason, str) else None
    return int(found[1]) if found else None
