"""How often a sweep's statistics are right: null sweeps, planted differences, and races.

Nothing trains here. Values are drawn as if trials had ended with them, and races drive the real
scheduler with Tune's real trials (`simulated_race.py`), so what is measured is how often a verdict
is right, over hundreds of sweeps.

Arms of a race are planted as learning curves: the best gains 0.30, the second 0.24, and each next
one 0.01 less. A seed moves all arms alike by 0.05 at every iteration; a trial's own luck is 0.01,
and so is the error of a measurement.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from common import RESULTS, machine
from simulated_race import PlantedArms, run_race

from rllib_dapo.run.search.paired_comparison import LEVEL, compare_points
from rllib_dapo.run.search.race_scheduler import RaceScheduler

SWEEPS = 400
LENGTH = 30
GAINS = (0.30, *(0.24 - 0.01 * place for place in range(8)))
# Points, seeds, and what the noise of points (rows) or seeds (columns) is multiplied by.
SHAPES: dict[str, tuple[int, int, np.ndarray]] = {
    "3x3 grid, 5 seeds": (9, 5, np.ones((9, 5))),
    "3x3 grid, 3 seeds": (9, 3, np.ones((9, 3))),
    "2 points, 5 seeds": (2, 5, np.ones((2, 5))),
    "2 points, 10 seeds": (2, 10, np.ones((2, 10))),
    "20 points, 5 seeds": (20, 5, np.ones((20, 5))),
    "3x3 grid, one seed with 6 times the noise": (9, 5, np.array([[1, 1, 1, 1, 6.0]])),
    "3x3 grid, one point with 4 times the noise": (
        9,
        5,
        np.where(np.arange(9) < 1, 4.0, 1.0)[:, None],
    ),
    "3x3 grid, half of the points with a quarter of the noise": (
        9,
        5,
        np.where(np.arange(9) < 4, 1.0, 0.25)[:, None],
    ),
}


def _sweeps(shape: str, kind: str, rng: np.random.Generator) -> Any:
    """Sweeps without a difference: seeds shift all points by 3, each trial has noise of 1."""
    num_points, num_seeds, scale = SHAPES[shape]
    for _ in range(SWEEPS):
        size = num_points, num_seeds
        noise = rng.standard_t(2.5, size) if kind == "heavy tails" else rng.normal(size=size)
        yield rng.normal(0, 3, (1, num_seeds)) + noise * scale


def null_sweeps() -> list[dict[str, Any]]:
    """How many sweeps without a difference are told to have none."""
    rows = []
    for shape in SHAPES:
        for kind in ("normal", "heavy tails"):
            rng = np.random.default_rng(0)
            verdicts = [compare_points(values).verdict for values in _sweeps(shape, kind, rng)]
            told = verdicts.count("no difference")
            rows.append({"shape": shape, "noise": kind, "sweeps": SWEEPS, "no_difference": told})
    return rows


def planted_differences() -> list[dict[str, Any]]:
    """How often the best point is found and every other one told from it.

    The best is better by some standard deviations of a trial's own noise.
    """
    rows = []
    for shape in ("3x3 grid, 5 seeds", "2 points, 5 seeds", "20 points, 5 seeds"):
        for size in (1.0, 2.0, 3.0, 4.0):
            found = best = 0
            for values in _sweeps(shape, "normal", np.random.default_rng(1)):
                values[0] += size
                compared = compare_points(values)
                marks = [point.mark for point in compared.points]
                best += compared.best == 0
                found += compared.best == 0 and marks.count("worse") == len(marks) - 1
            rows.append(
                {
                    "shape": shape,
                    "difference_in_deviations": size,
                    "sweeps": SWEEPS,
                    "best_is_best": best,
                    "all_others_told": found,
                }
            )
    return rows


def races() -> dict[str, Any]:
    """What races of nine planted arms find, with how many of the iterations; and of equal ones."""
    arms, equal = (PlantedArms(gains=gains, num_iterations=LENGTH) for gains in (GAINS, (0.3,) * 9))
    shares, found = [], 0
    for seed in range(SWEEPS):
        curves = arms.curves(np.random.default_rng(seed))
        outcome = run_race(RaceScheduler(max_t=LENGTH), curves, at_once=45)
        found += outcome.found == 0
        shares.append(float(outcome.iterations.sum() / curves.size))

    kept = 0
    for seed in range(SWEEPS):
        curves = equal.curves(np.random.default_rng(seed))
        outcome = run_race(RaceScheduler(max_t=LENGTH), curves, at_once=45)
        kept += len(outcome.finished) == len(equal.gains)
    return {
        "arms": list(GAINS),
        "seeds": arms.num_seeds,
        "iterations_of_a_trial": LENGTH,
        "races": SWEEPS,
        "best_found": found,
        "share_of_iterations": {
            "mean": float(np.mean(shares)),
            "median": float(np.median(shares)),
            "largest": max(shares),
        },
        "races_of_equal_arms": SWEEPS,
        "nothing_dropped": kept,
    }


def main() -> None:
    """Runs everything and writes the result file."""
    started = time.perf_counter()
    result = {
        "level": LEVEL,
        "null_sweeps": null_sweeps(),
        "planted_differences": planted_differences(),
        "races": races(),
        "seconds": round(time.perf_counter() - started, 1),
        "machine": machine(),
    }
    (RESULTS / "sweep_statistics.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result[key] for key in ("null_sweeps", "races", "seconds")}, indent=1))


if __name__ == "__main__":
    main()
