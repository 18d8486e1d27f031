"""Long curves with fewer points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

MOST_POINTS, FEWEST_POINTS = 1000, 100
_POINTS_PER_PAGE = 200_000  # what a browser draws, and an e-mail carries, without trouble


def points_per_curve(num_curves: int, *, fewest: int = FEWEST_POINTS) -> int:
    """Number of points that each curve may have on a page with this many curves.

    Args:
        num_curves: Number of the page's curves.
        fewest: Number of points that a curve has in any case.
    """
    return max(fewest, min(MOST_POINTS, _POINTS_PER_PAGE // max(1, num_curves)))


def downsampled_indices(values: Sequence[float] | np.ndarray, limit: int | None) -> list[int]:
    """Chooses the points of a curve to keep: both ends, and the extremes of each stretch between.

    Keeping the lowest and the highest point of each stretch means that no spike is lost, which a
    mean or every n-th point would hide.

    Args:
        values: `[N]` finite numbers.
        limit: Largest number of points to keep, at least 4; None keeps all.

    Returns:
        Indices of the points to keep, in order.
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
