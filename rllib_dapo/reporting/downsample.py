"""Long curves with fewer points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

MOST_POINTS, FEWEST_POINTS = 1000, 100
_ALL_POINTS = 200_000  # on a page: what a browser draws, and a mail takes, without fuss


def points_per_curve(num_curves: int) -> int:
    """How many points each of so many curves may have on one page."""
    return max(FEWEST_POINTS, min(MOST_POINTS, _ALL_POINTS // max(1, num_curves)))


def thin(values: Sequence[float] | np.ndarray, limit: int | None) -> list[int]:
    """Which points to keep: of each stretch the lowest and the highest, so that no spike is lost; and both ends.

    Args:
        values: `[N]` finite numbers.
        limit: At most so many points, at least 4; None keeps all.

    Returns:
        Indices in order.
    """
    count = len(values)
    if limit is None or count <= limit:
        return list(range(count))
    array = np.asarray(values, dtype=float)
    edges = np.linspace(1, count - 1, (limit - 2) // 2 + 1).astype(int)
    kept = {0, count - 1}
    for start, stop in pairwise(edges):
        stretch = array[start:stop]
        kept |= {int(start + stretch.argmin()), int(start + stretch.argmax())}
    return sorted(kept)
