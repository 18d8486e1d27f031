"""Statistics of few runs, as "Deep RL at the Edge of the Statistical Precipice" takes them.

Interquartile means and stratified bootstrap intervals (arXiv 2108.13264; its library rliable takes
the mean from SciPy's `trim_mean` too). The bootstrap is SciPy's: each of several samples is drawn
anew by itself, so tasks are strata.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 2000
CONFIDENCE = 0.95

Interval = tuple[float, float]


def iqm(values: ArrayLike, axis: int = -1) -> NDArray[np.float64]:
    """Interquartile mean: a quarter of the values is left out at each end.

    Args:
        values: `[..., seeds]`.
        axis: Axis of the seeds.
    """
    return np.asarray(stats.trim_mean(values, 0.25, axis=axis))


def pooled_iqm(*strata: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Interquartile mean of all values of several samples."""
    return iqm(np.concatenate(strata, axis=axis), axis=axis)


def iqm_interval(strata: Sequence[ArrayLike]) -> Interval:
    """Stratified bootstrap interval of the interquartile mean.

    Args:
        strata: The final values of a task's seeds, for each task.

    Returns:
        Lower and upper end; not a number where a task has fewer than two seeds.
    """
    samples = [np.asarray(values, dtype=float) for values in strata]
    if min(map(len, samples)) < 2:
        return float("nan"), float("nan")
    return _bootstrap(samples, pooled_iqm, vectorized=True)


def difference_interval(ours: ArrayLike, other: ArrayLike) -> Interval:
    """Bootstrap interval of the difference of two interquartile means."""
    samples = [np.asarray(values, dtype=float) for values in (ours, other)]
    if min(map(len, samples)) < 2:
        return float("nan"), float("nan")

    def difference(
        one: NDArray[np.float64], two: NDArray[np.float64], axis: int = -1
    ) -> NDArray[np.float64]:
        return iqm(one, axis) - iqm(two, axis)

    return _bootstrap(samples, difference, vectorized=True)


def first_reached(x: ArrayLike, y: ArrayLike, threshold: float) -> float:
    """Where a curve, straight between its points, first reaches a value.

    Args:
        x: `[points]`, ascending.
        y: `[points]`.
        threshold: The value.

    Returns:
        The place on the x-axis; infinity where it is never reached.
    """
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    above = np.flatnonzero(ys >= threshold)
    if not above.size:
        return float("inf")
    i = int(above[0])
    if i == 0:
        return float(xs[0])
    step = (threshold - ys[i - 1]) / (ys[i] - ys[i - 1])
    return float(xs[i - 1] + step * (xs[i] - xs[i - 1]))


def speed_up(
    base: tuple[NDArray[np.float64], NDArray[np.float64]],
    arm: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> float:
    """How many times less an arm needs, for the best that the base comes to.

    The best is the highest point of the base's median curve over its seeds; each side's cost is
    where its own median curve first reaches that.

    Args:
        base: Costs and accuracies, each `[seeds, points]`.
        arm: The same of the arm.

    Returns:
        The base's cost over the arm's; 0 where the arm never gets there, not a number where the
        base never gets better than it was at the start.
    """
    base_x, base_y = (np.median(values, axis=0) for values in base)
    arm_x, arm_y = (np.median(values, axis=0) for values in arm)

    best = float(base_y.max())
    cost, ours = first_reached(base_x, base_y, best), first_reached(arm_x, arm_y, best)
    if cost == 0 or ours == 0:
        return float("nan")
    return cost / ours


def speed_up_interval(
    base: tuple[NDArray[np.float64], NDArray[np.float64]],
    arm: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> Interval:
    """Bootstrap interval of `speed_up`: the seeds of both sides are drawn anew."""
    if min(len(base[0]), len(arm[0])) < 2:
        return float("nan"), float("nan")

    def of_seeds(ours: NDArray[np.int64], others: NDArray[np.int64]) -> float:
        return speed_up((base[0][ours], base[1][ours]), (arm[0][others], arm[1][others]))

    return _bootstrap([np.arange(len(base[0])), np.arange(len(arm[0]))], of_seeds, vectorized=False)


def _bootstrap(
    samples: Sequence[NDArray], statistic: Callable[..., object], *, vectorized: bool
) -> Interval:
    """SciPy's percentile interval, with the same draws every time."""
    drawn = stats.bootstrap(
        samples,
        statistic,
        vectorized=vectorized,
        paired=False,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).bootstrap_distribution
    drawn = drawn[~np.isnan(drawn)]
    if not drawn.size:
        return float("nan"), float("nan")
    tail = (1 - CONFIDENCE) / 2
    # An infinite value (an arm is there at once) must not make an end that is not a number.
    low, high = np.quantile(drawn, (tail, 1 - tail), method="nearest")
    return float(low), float(high)
