"""What a sweep has shown: which points differ from the best, which cannot be told from it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rllib_dapo.run.idle_settings import idle_settings
from rllib_dapo.run.search.paired_comparison import (
    MOST_SEEDS,
    PairedComparison,
    PointResult,
    Verdict,
    compare_points,
    seeds_needed,
)
from rllib_dapo.run.sweep_points import SweepPoint, SweepTrial, points_of, varied_names


@dataclass(frozen=True, kw_only=True, slots=True)
class PointOutcome:
    """What came of one point.

    Attributes:
        settings: The settings in which points differ.
        trials: Places of its trials in the sweep.
        seeds: The seed of each of these trials, as text.
        values: The metric of each of these trials; None where there is none.
        missing: Number of the sweep's seeds without a value here.
        result: How it compares with the others.
        seeds_needed: About how many seeds would tell it from the best; None if it is told, or would
            need more than is worth saying.
        dropped_at: Iteration at which a race dropped it.
        text: All this in words.
    """

    settings: Mapping[str, Any]
    trials: tuple[int, ...]
    seeds: tuple[str, ...]
    values: tuple[float | None, ...]
    missing: int
    result: PointResult
    seeds_needed: int | None
    dropped_at: int | None
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepComparison:
    """What came of a sweep.

    Attributes:
        metric: Metric by which points are compared: each trial's last value.
        mode: Whether more of it is better, or less.
        level: Confidence of all marks and intervals together.
        seeds: The seeds of the trials, as text.
        settings: Names of the settings in which points differ.
        verdict: See `PairedComparison`.
        text: The verdict in words.
        points: What came of each point, in the order of their first trials.
        order: Places in `points`, the best first.
        idle: By setting, what says that it never acted.
    """

    metric: str
    mode: Literal["max", "min"]
    level: float
    seeds: tuple[str, ...]
    settings: tuple[str, ...]
    verdict: Verdict
    text: str
    points: tuple[PointOutcome, ...]
    order: tuple[int, ...]
    idle: Mapping[str, str]

    @property
    def trials_from_best(self) -> list[int]:
        """Places of trials, those of the best point first; within a point, the best trial first."""
        sign = -1.0 if self.mode == "max" else 1.0
        places = []
        for place in self.order:
            point = self.points[place]
            values = [math.inf if value is None else sign * value for value in point.values]
            pairs = sorted(zip(values, point.trials, strict=True))
            places += [trial for _, trial in pairs]
        return places


def compare_sweep(
    trials: Sequence[SweepTrial], *, metric: str, mode: Literal["max", "min"]
) -> SweepComparison | None:
    """Compares the points of a sweep.

    Args:
        trials: All its trials.
        metric: Metric by which they are compared, as Tune names it.
        mode: Whether more of it is better, or less.

    Returns:
        The comparison; None where no two trials have settings that are known.
    """
    points = points_of(trials)
    if sum(len(point.trials) for point in points) < 2:
        return None
    seeds = list(dict.fromkeys(trials[place].seed for one in points for place in one.trials))
    dropped = [_dropped_at(point, trials) for point in points]

    # Points that a race has dropped were compared when it did: they have no value at the end.
    final = [
        np.full(len(seeds), math.nan) if at is not None else _values(point, trials, seeds, metric)
        for point, at in zip(points, dropped, strict=True)
    ]
    paired = compare_points(np.array(final), mode=mode)
    if any(at is not None for at in dropped):
        paired = _with_dropped(paired, points, trials, seeds, dropped, metric, mode)

    num_compared = sum(at is None for at in dropped)
    outcomes = tuple(
        _outcome(point, trials, result, metric, at, num_seeds=len(seeds), num_points=num_compared)
        for point, result, at in zip(points, paired.points, dropped, strict=True)
    )
    names = varied_names([trial.config for trial in trials])
    return SweepComparison(
        metric=metric,
        mode=mode,
        level=paired.level,
        seeds=tuple(seeds),
        settings=tuple(names),
        verdict=paired.verdict,
        text=_verdict_text(paired, outcomes, num_seeds=len(seeds)),
        points=outcomes,
        order=paired.order,
        idle=idle_settings(names, trials),
    )


def _dropped_at(point: SweepPoint, trials: Sequence[SweepTrial]) -> int | None:
    found = [trials[place].dropped_at for place in point.trials]
    return max((at for at in found if at is not None), default=None)


def _values(
    point: SweepPoint,
    trials: Sequence[SweepTrial],
    seeds: Sequence[str],
    metric: str,
    iteration: int | None = None,
) -> np.ndarray:
    """A value for each seed, NaN where there is none; of trials with the same seed the mean."""
    by_seed: dict[str, list[float]] = {seed: [] for seed in seeds}
    for place in point.trials:
        value = trials[place].value(metric, iteration=iteration)
        if value is not None:
            by_seed[trials[place].seed].append(value)
    return np.array([np.mean(found) if found else math.nan for found in by_seed.values()])


def _with_dropped(
    paired: PairedComparison,
    points: Sequence[SweepPoint],
    trials: Sequence[SweepTrial],
    seeds: Sequence[str],
    dropped: Sequence[int | None],
    metric: str,
    mode: Literal["max", "min"],
) -> PairedComparison:
    """Adds points that a race has dropped: worse, by their difference at that iteration."""
    results = list(paired.points)
    sign = -1.0 if mode == "max" else 1.0
    badness: dict[int, float] = {}
    for place, at in enumerate(dropped):
        if at is None:
            continue
        own = _values(points[place], trials, seeds, metric, at)
        best = own * math.nan
        if paired.best is not None:
            best = _values(points[paired.best], trials, seeds, metric, at)
        differences = (own - best)[~np.isnan(own - best)]
        known = own[~np.isnan(own)]
        results[place] = dataclasses.replace(
            results[place],
            mean=float(known.mean()) if len(known) else None,
            num_values=len(known),
            mark="worse",
            difference=float(differences.mean()) if len(differences) else None,
        )
        badness[place] = sign * (float(differences.mean()) if len(differences) else math.nan)

    # The later a point was dropped, the better it was.
    kept = [place for place in paired.order if dropped[place] is None]
    gone = sorted(badness, key=lambda place: (-(dropped[place] or 0), badness[place]))
    return PairedComparison(
        points=tuple(results),
        order=(*kept, *gone),
        verdict="difference",
        level=paired.level,
    )


def _outcome(
    point: SweepPoint,
    trials: Sequence[SweepTrial],
    result: PointResult,
    metric: str,
    dropped_at: int | None,
    *,
    num_seeds: int,
    num_points: int,
) -> PointOutcome:
    needed = None
    if result.mark == "same" and result.difference is not None and result.noise is not None:
        needed = seeds_needed(
            difference=result.difference, noise=result.noise, num_points=num_points
        )
    return PointOutcome(
        settings=point.settings,
        trials=point.trials,
        seeds=tuple(trials[place].seed for place in point.trials),
        values=tuple(trials[place].value(metric) for place in point.trials),
        missing=num_seeds - result.num_values,
        result=result,
        seeds_needed=needed,
        dropped_at=dropped_at,
        text=_point_text(result, dropped_at, num_seeds=num_seeds, needed=needed),
    )


def _point_text(
    result: PointResult, dropped_at: int | None, *, num_seeds: int, needed: int | None
) -> str:
    if result.mean is None:
        return "no result" if num_seeds == 1 else f"no result in {num_seeds} seeds"
    parts = [f"{result.mean:.4g}"]
    if result.interval is not None and dropped_at is None:
        low, high = result.interval
        parts.append(f"+- {(high - low) / 2:.2g}")
    if num_seeds > 1:
        of = f"{result.num_values} of " if result.num_values < num_seeds else ""
        parts.append(f"over {of}{num_seeds} seeds")

    told = _mark_text(result, dropped_at, needed)
    return " ".join(parts) + (f"; {told}" if told and num_seeds > 1 else "")


def _mark_text(result: PointResult, dropped_at: int | None, needed: int | None) -> str:
    if dropped_at is not None:
        by = "" if result.difference is None else f", worse by {abs(result.difference):.3g} there"
        return f"dropped at iteration {dropped_at}{by}"
    if result.mark == "best":
        return "the best"
    if result.mark == "worse" and result.difference_interval is not None:
        low, high = sorted(abs(end) for end in result.difference_interval)
        return f"worse than the best by {low:.2g} to {high:.2g}"
    if result.mark == "same":
        if result.difference == 0:
            return "equal to the best"
        seeds = f"about {needed} seeds" if needed else f"more than {MOST_SEEDS} seeds"
        return f"cannot be told from the best: it would take {seeds}"
    return "not compared: fewer than two seeds in common with the best"


def _verdict_text(
    paired: PairedComparison, outcomes: Sequence[PointOutcome], *, num_seeds: int
) -> str:
    marks = [outcome.result.mark for outcome in outcomes]
    sure = f"{paired.level:.0%} confidence"
    if paired.verdict == "unknown":
        if len(outcomes) < 2:
            return "one point: there is nothing to compare"
        if num_seeds < 2:
            return (
                "one seed for each point: what differs may be chance; search.seeds repeats every "
                "point"
            )
        return "fewer than two seeds in common: what differs may be chance"

    same = [outcome for outcome in outcomes if outcome.result.mark == "same"]
    if paired.verdict == "difference":
        num_worse = marks.count("worse")
        verb = "is" if num_worse == 1 else "are"
        text = f"{num_worse} of {len(outcomes) - 1} other points {verb} worse than the best"
        rest = f"; {len(same)} cannot be told from it" if same else ""
        return f"{text} ({sure}){rest}"

    text = (
        f"no difference: {len(same) + 1} points cannot be told apart by {num_seeds} seeds ({sure})"
    )
    largest = max(same, key=lambda outcome: abs(outcome.result.difference or 0.0))
    if not largest.result.difference:
        return f"{text}; all their results are equal"
    needed = largest.seeds_needed
    seeds = f"about {needed}" if needed else f"more than {MOST_SEEDS}"
    size = abs(largest.result.difference)
    return f"{text}; {seeds} would show a difference as large as the largest seen, {size:.3g}"
