"""Which points of a search differ, judged by trials that ran under the same seeds.

What a seed does to all points alike is no difference between them, so values are compared seed by
seed: value = point + seed + noise, a randomised block design. All pairs are judged at once by
Tukey's studentized range. Whichever point turns out to be the best was among the pairs, so nothing
more has to be corrected for having picked it.

Points may differ in their noise, and that of a few may be large. So a difference is held against
the larger of two estimates of its noise: that of all points together, and its own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Confidence of everything that is said of a sweep, taken together. Where the noise of points is
# very unequal, the share of false findings is up to three times the nominal one, so 2 % keeps it
# under 6 %: benchmarks/sweep_statistics.py measures it.
LEVEL = 0.98
MOST_SEEDS = 100
_POWER = 0.8
_SAME = 1e-9  # relative: values that differ less are the same
_SEED_COUNTS = (3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 70, MOST_SEEDS)

Mark = Literal["best", "same", "worse", "unknown"]
Verdict = Literal["difference", "no difference", "unknown"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PointResult:
    """What is known of one point.

    Attributes:
        mean: Mean over seeds, adjusted for those that are missing; None without any value.
        interval: Confidence interval of the mean of its own values; None with fewer than two.
        num_values: Number of seeds with a value.
        mark: `best`; `same` if it cannot be told from the best; `worse`; `unknown` if there are
            fewer than two seeds to compare it by.
        difference: Its difference from the best point, the mean over the seeds that both have.
        difference_interval: Interval of the difference, corrected for all pairs of points.
        noise: Standard deviation of the difference over seeds.
        equal_to: Other points whose values are the same in every seed.
    """

    mean: float | None
    interval: tuple[float, float] | None
    num_values: int
    mark: Mark
    difference: float | None
    difference_interval: tuple[float, float] | None
    noise: float | None
    equal_to: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedComparison:
    """What is known of all points.

    Attributes:
        points: One result for each point.
        order: The points from the best to the worst; behind them those with one value, where others
            have more, and those without any.
        verdict: `difference` if a point is worse than the best, `no difference` if no point can be
            told from any other, `unknown` if there are fewer than two seeds to compare by.
        level: Confidence of all marks and intervals together.
    """

    points: tuple[PointResult, ...]
    order: tuple[int, ...]
    verdict: Verdict
    level: float

    @property
    def best(self) -> int | None:
        """The best point; None if none has a value."""
        first = self.order[0] if self.order else None
        return None if first is None or self.points[first].mean is None else first


def compare_points(
    values: NDArray[np.float64], *, mode: Literal["max", "min"] = "max", level: float = LEVEL
) -> PairedComparison:
    """Compares points over seeds.

    Args:
        values: Shape (points, seeds): a trial's value; NaN where there is none.
        mode: Whether more is better, or less.
        level: Probability that not one difference is found among points that are equal.
    """
    values = np.where(np.isfinite(values), values, np.nan)
    means, pooled, freedom = _additive_fit(values)
    sign = -1.0 if mode == "max" else 1.0
    # One lucky trial makes no best point where others have more.
    counts = np.sum(~np.isnan(values), axis=1)
    has_few = counts < min(2, counts.max(initial=0))
    order = np.lexsort((np.where(np.isnan(means), np.inf, sign * means), has_few))

    num_compared = int(np.sum(~np.isnan(means)))
    best = values[order[0]] if num_compared else np.full(values.shape[1], np.nan)
    critical = critical_value(num_compared, freedom, level)
    floor = _rounding_noise(values)
    equal = _equal_points(values)

    points = []
    for place, own in enumerate(values):
        differences = (own - best)[~np.isnan(own - best)]
        points.append(
            _point_result(
                own,
                differences,
                mean=float(means[place]),
                pooled=max(pooled, floor),
                critical=critical,
                sign=sign,
                level=level,
                is_best=bool(num_compared) and place == order[0],
                equal_to=equal[place],
            )
        )

    marks = {point.mark for point in points}
    verdict: Verdict = "difference" if "worse" in marks else "no difference"
    if not marks & {"same", "worse"}:
        verdict = "unknown"
    return PairedComparison(
        points=tuple(points),
        order=tuple(int(place) for place in order),
        verdict=verdict,
        level=level,
    )


def seeds_needed(
    *, difference: float, noise: float, num_points: int, level: float = LEVEL
) -> int | None:
    """About how many seeds would show a difference of this size.

    Args:
        difference: The difference of two points, thought to be as large as it was seen.
        noise: Standard deviation of the difference over seeds.
        num_points: Number of points that are compared.
        level: See `compare_points`.

    Returns:
        The smallest number at which the difference is found four times in five; None if there is
        no difference, or more than `MOST_SEEDS` would be needed.
    """
    if num_points < 2 or difference == 0 or not noise > 0:
        return None
    effect = abs(difference) / noise
    for count in _SEED_COUNTS:
        freedom = (num_points - 1) * (count - 1)
        critical = critical_value(num_points, freedom, level)
        if stats.nct.sf(critical, freedom, effect * math.sqrt(count)) >= _POWER:
            return count
    return None


@lru_cache(maxsize=1024)
def critical_value(num_points: int, freedom: int, level: float) -> float:
    """The t value that the largest of all differences exceeds by chance with probability 1 - level.

    Args:
        num_points: Number of points.
        freedom: Degrees of freedom of the noise.
        level: Confidence of all comparisons together.
    """
    if num_points < 2 or freedom < 1:
        return math.inf
    return float(stats.studentized_range.ppf(level, num_points, freedom)) / math.sqrt(2)


def _point_result(
    own: NDArray[np.float64],
    differences: NDArray[np.float64],
    *,
    mean: float,
    pooled: float,
    critical: float,
    sign: float,
    level: float,
    is_best: bool,
    equal_to: tuple[int, ...],
) -> PointResult:
    known = own[~np.isnan(own)]
    count = len(differences)
    mark: Mark = "best" if is_best else "unknown"
    mean_difference = float(differences.mean()) if count else 0.0
    difference_interval = noise = None

    if count > 1 and not is_best and math.isfinite(critical):
        noise = math.sqrt(max(pooled, float(differences.var(ddof=1))))
        width = critical * noise / math.sqrt(count)
        difference_interval = (mean_difference - width, mean_difference + width)
        mark = "worse" if sign * mean_difference > width else "same"

    return PointResult(
        mean=None if math.isnan(mean) else mean,
        interval=_mean_interval(known, level),
        num_values=len(known),
        mark=mark,
        difference=mean_difference if count else None,
        difference_interval=difference_interval,
        noise=noise,
        equal_to=equal_to,
    )


def _mean_interval(known: NDArray[np.float64], level: float) -> tuple[float, float] | None:
    count = len(known)
    if count < 2:
        return None
    width = float(stats.t.ppf((1 + level) / 2, count - 1) * known.std(ddof=1)) / math.sqrt(count)
    return float(known.mean()) - width, float(known.mean()) + width


def _additive_fit(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, int]:
    """Fits value = point + seed by least squares.

    Returns:
        Each point's mean over all seeds, NaN without any value; the variance of the difference of
        two points in one seed; and its degrees of freedom.
    """
    values = values[:, ~np.isnan(values).all(axis=0)]
    is_known = ~np.isnan(values)
    num_points, num_seeds = values.shape
    if not is_known.any():
        return np.full(num_points, np.nan), 0.0, 0

    if is_known.all():  # means are plain ones, to the last digit, so equal points stay equal
        means = values.mean(axis=1)
        residuals = values - means[:, None] - values.mean(axis=0) + values.mean()
        freedom = (num_points - 1) * (num_seeds - 1)
    else:
        means, residuals, freedom = _fit_with_gaps(values, is_known)
    variance = 2 * float(np.sum(residuals**2)) / freedom if freedom else 0.0
    return means, variance, freedom


def _fit_with_gaps(
    values: NDArray[np.float64], is_known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """The same where values are missing: means, residuals and degrees of freedom."""
    rows, columns = np.nonzero(is_known)
    num_points = len(values)
    design = np.zeros((len(rows), sum(values.shape)))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), num_points + columns] = 1

    known = values[is_known]
    center = known.mean()
    effects, _, rank, _ = np.linalg.lstsq(design, known - center, rcond=None)
    residuals = known - center - design @ effects
    means = center + effects[:num_points] + effects[num_points:].mean()

    # A point that has all seeds needs no adjustment.
    whole = is_known.all(axis=1)
    means[whole] = values[whole].mean(axis=1)
    means[~is_known.any(axis=1)] = np.nan
    return means, residuals, len(rows) - int(rank)


def _rounding_noise(values: NDArray[np.float64]) -> float:
    """Variance of a difference that comes from counting in steps, as accuracies do.

    A few values may agree to the last digit by chance: without this, there would be no noise then.
    """
    distinct = np.unique(values[~np.isnan(values)])
    steps = np.diff(distinct)
    steps = steps[steps > _SAME * np.abs(distinct).max(initial=0)]
    return float(steps.min()) ** 2 / 6 if len(steps) else 0.0


def _equal_points(values: NDArray[np.float64]) -> list[tuple[int, ...]]:
    """For each point the others with the same values in the same seeds."""
    groups: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, own in enumerate(values):
        if not np.isnan(own).all():
            groups[tuple(f"{value:.9g}" for value in own)].append(place)

    equal: list[tuple[int, ...]] = [()] * len(values)
    for group in groups.values():
        for place in group:
            equal[place] = tuple(other for other in group if other != place)
    return equal
