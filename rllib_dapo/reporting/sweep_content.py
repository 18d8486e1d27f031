"""What a report says of a sweep's points: which differ, which cannot be told apart, which are idle.

The shape of the data, as the page finds it under `sweep_comparison`:

- `metric`, `mode`, `level`: by what points are compared (each trial's last value), and the
  confidence of all marks and intervals together;
- `seeds`: all seeds, as text; `settings`: what points differ in, as in `varied`, without the seed;
- `verdict`: `difference`, `no difference` or `unknown`; `text`: the same in words;
- `points`: for each point its `settings`, `trials` (places in the report's `trials`), their `seeds`
  and `values`, the `mean` with its `interval`, the number of `missing` seeds, its `mark` (`best`,
  `same`: cannot be told from the best, `worse`, `unknown`), its `difference` from the best with the
  `difference_interval`, `seeds_needed` to tell it from the best, `equal_to` (other points with the
  same values), `dropped_at` (iteration at which a race dropped it) and all this as `text`;
- `order`: places of points, the best first;
- `idle`: settings that never acted, each with its `setting` and a `text`.

It is None where there is nothing to compare.
"""

from __future__ import annotations

from typing import Any

from rllib_dapo.reporting.stored_run import StoredRun
from rllib_dapo.reporting.trial_settings import json_setting
from rllib_dapo.run.sweep_comparison import PointOutcome, SweepComparison, compare_sweep
from rllib_dapo.run.sweep_points import SweepTrial


def run_comparison(run: StoredRun) -> SweepComparison | None:
    """Compares the points of a stored run; None where there is nothing to compare."""
    trials = [
        SweepTrial(
            config=trial.config,
            frame=trial.frame,
            is_over=trial.status == "finished",
            stop_reason=trial.stop_reason,
        )
        for trial in run.trials
    ]
    return compare_sweep(trials, metric=run.metric, mode=run.mode)


def sweep_content(comparison: SweepComparison | None) -> dict[str, Any] | None:
    """A comparison as data that JSON can hold; its shape is above."""
    if comparison is None or not (comparison.settings or len(comparison.seeds) > 1):
        return None
    return {
        "metric": comparison.metric,
        "mode": comparison.mode,
        "level": comparison.level,
        "seeds": list(comparison.seeds),
        "settings": list(comparison.settings),
        "verdict": comparison.verdict,
        "text": comparison.text,
        "points": [_point_content(point) for point in comparison.points],
        "order": list(comparison.order),
        "idle": [
            {"setting": name, "text": f"idle: {name}: {why}"}
            for name, why in comparison.idle.items()
        ],
    }


def _point_content(point: PointOutcome) -> dict[str, Any]:
    result = point.result
    return {
        "settings": {name: json_setting(value) for name, value in point.settings.items()},
        "trials": list(point.trials),
        "seeds": list(point.seeds),
        "values": list(point.values),
        "mean": result.mean,
        "interval": _ends(result.interval),
        "missing": point.missing,
        "mark": result.mark,
        "difference": result.difference,
        "difference_interval": _ends(result.difference_interval),
        "seeds_needed": point.seeds_needed,
        "equal_to": list(result.equal_to),
        "dropped_at": point.dropped_at,
        "text": point.text,
    }


def _ends(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)
