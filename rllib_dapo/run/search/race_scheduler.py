"""Racing: a point whose trials are worse than the best's, seed by seed, is dropped on the way.

All trials run to a milestone and pause there. Then points are compared over seeds, at the same
iteration, and those that are worse than the best are dropped with all their trials; the others go
on to the next milestone. The probability of a wrong drop is shared among the milestones
(Bonferroni) and among all pairs of points (`compare_points`), so it holds for the whole race. The
best point is never worse than itself, so one is always left.

The idea is that of Maron and Moore (1994), Hoeffding races, with blocks as in F-Race (Birattari et
al., 2002).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from ray.rllib.utils.annotations import override
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.utils import flatten_dict

from rllib_dapo.ray_internals import keep_one_more_actor, keep_trial_state
from rllib_dapo.run.search.paired_comparison import LEVEL, compare_points
from rllib_dapo.run.search.race_milestones import dropped_reason, is_dropped, milestones
from rllib_dapo.run.search.stoppers import STOP_REASON

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController


@dataclass(slots=True)
class _Runner:
    """One trial of a race.

    Attributes:
        point: What identifies its point: its settings without the seed.
        seed: Its seed, as text.
        values: The metric by iteration.
        reached: The newest iteration.
        has_ended: Whether it has ended, by itself or by an error.
        has_failed: Whether it ended by an error: it has no value then.
    """

    point: str
    seed: str
    values: dict[int, float] = field(default_factory=dict)
    reached: int = 0
    has_ended: bool = False
    has_failed: bool = False

    def value_at(self, iteration: int) -> float:
        """The value there; of a trial that has ended its last one; NaN where there is none."""
        if self.has_failed:
            return math.nan
        if self.has_ended and self.values:
            return self.values[max(self.values)]
        return self.values.get(iteration, math.nan)


class RaceScheduler(FIFOScheduler):
    """Drops points of a search that are worse than the best over the same seeds.

    Trials of one point have the same settings but for the seed. `tune.TuneConfig` gives metric and
    mode.
    """

    _supports_buffered_results = False

    def __init__(
        self,
        *,
        max_t: int,
        grace_period: int | None = None,
        interval: int | None = None,
        step: int = 1,
        confidence: float = LEVEL,
        seed: str = "seed",
        metric: str | None = None,
        mode: Literal["max", "min"] | None = None,
    ) -> None:
        """Plans the milestones.

        Args:
            max_t: Iterations of a trial; others than this end it.
            grace_period: The first milestone; by default a sixth of `max_t`.
            interval: Iterations from one milestone to the next; by default `grace_period`.
            step: Iterations from one value of the metric to the next, for those defaults.
            confidence: Probability that no point is dropped that is not worse than the best.
            seed: Name of the setting in which the trials of a point differ.
            metric: Metric by which points are compared, as Tune names it.
            mode: Whether more of it is better, or less.
        """
        super().__init__()
        self._milestones = milestones(
            max_t, grace_period=grace_period, interval=interval, step=step
        )
        self._level = 1 - (1 - confidence) / max(1, len(self._milestones))
        self._seed = seed
        self._metric = metric
        self._mode: Literal["max", "min"] | None = mode
        self._runners: dict[str, _Runner] = {}
        self._dropped: dict[str, int] = {}  # by point, the iteration at which it was dropped
        self._num_rounds = 0

    @override(FIFOScheduler)
    def set_search_properties(self, metric: str | None, mode: Any, **spec: Any) -> bool:
        """Tune calls this with the metric and mode of `tune.TuneConfig`."""
        if (self._metric and metric) or (self._mode and mode):
            return False
        self._metric, self._mode = metric or self._metric, mode or self._mode
        return True

    @override(FIFOScheduler)
    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Takes a trial into the race; one of a resumed sweep with what it has reached."""
        if not self._metric or not self._mode:
            raise ValueError("a race needs a metric and a mode: give them to tune.TuneConfig")
        params = dict(trial.evaluated_params)
        seed = str(params.pop(self._seed, None))
        point = json.dumps(params, sort_keys=True, default=_kind_of)
        runner = self._runners[trial.trial_id] = _Runner(point=point, seed=seed)
        keep_one_more_actor(tune_controller, trial)

        last = trial.last_result if trial.run_metadata.last_result else {}
        if "training_iteration" in last:
            self._note(runner, flatten_dict(dict(last)))
        if trial.is_finished():
            runner.has_ended, runner.has_failed = True, trial.status == Trial.ERROR
            if is_dropped(last.get(STOP_REASON)):
                self._dropped[runner.point] = runner.reached

    @override(FIFOScheduler)
    def on_trial_result(
        self, tune_controller: TuneController, trial: Trial, result: Mapping[str, Any]
    ) -> str:
        """Has a trial go on, or pause at a milestone until the others are there, or stop."""
        runner = self._runners[trial.trial_id]
        self._note(runner, result)
        if runner.point in self._dropped:
            return TrialScheduler.STOP
        if self._milestone is None or runner.reached < self._milestone:
            return TrialScheduler.CONTINUE

        self._close_rounds(tune_controller)
        if runner.point in self._dropped:
            return TrialScheduler.STOP
        is_ahead = self._milestone is not None and runner.reached >= self._milestone
        return TrialScheduler.PAUSE if is_ahead else TrialScheduler.CONTINUE

    @override(FIFOScheduler)
    def on_trial_complete(
        self, tune_controller: TuneController, trial: Trial, result: Mapping[str, Any]
    ) -> None:
        """Keeps the last value of a trial that has ended, and waits for it no longer."""
        runner = self._runners[trial.trial_id]
        if "training_iteration" in result:
            self._note(runner, result)
        runner.has_ended = True
        self._close_rounds(tune_controller)

    @override(FIFOScheduler)
    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """Waits no longer for a trial that has failed; its seed is missing from its point."""
        runner = self._runners[trial.trial_id]
        runner.has_ended = runner.has_failed = True
        self._close_rounds(tune_controller)

    @override(FIFOScheduler)
    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        """The same for a trial that is stopped while it waits."""
        self._runners[trial.trial_id].has_ended = True
        self._close_rounds(tune_controller)

    @override(FIFOScheduler)
    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """A trial that is still to reach the milestone; stops the paused trials of dropped points.

        A trial that is still saving cannot be stopped without losing its checkpoint. So this is
        done here, once it has paused.
        """
        trials = tune_controller.get_trials()
        for trial in trials:
            runner = self._runners[trial.trial_id]
            if trial.status == Trial.PAUSED and runner.point in self._dropped:
                # Tune writes no further result, so what it keeps of the last one says why.
                why = {"done": True, STOP_REASON: dropped_reason(self._dropped[runner.point])}
                trial.update_last_result({**trial.last_result, **why})
                tune_controller.stop_trial(trial)
                keep_trial_state(tune_controller, trial)

        waiting = [trial for trial in trials if trial.status in (Trial.PENDING, Trial.PAUSED)]
        waiting.sort(key=lambda trial: trial.status == Trial.PAUSED)
        for trial in waiting:
            runner = self._runners[trial.trial_id]
            if self._milestone is None or runner.reached < self._milestone:
                return trial
        return None

    @override(FIFOScheduler)
    def debug_string(self) -> str:
        """One line for Tune's own output."""
        return f"Using a race: {len(self._dropped)} points dropped"

    @property
    def _milestone(self) -> int | None:
        """Where trials wait for each other next; None once nothing is left to decide."""
        points = {runner.point for runner in self._runners.values()} - set(self._dropped)
        if self._num_rounds >= len(self._milestones) or (self._num_rounds and len(points) < 2):
            return None
        return self._milestones[self._num_rounds]

    def _note(self, runner: _Runner, result: Mapping[str, Any]) -> None:
        runner.reached = int(result["training_iteration"])
        value = result.get(str(self._metric))
        if value is not None and math.isfinite(value):
            runner.values[runner.reached] = float(value)

    def _close_rounds(self, tune_controller: TuneController) -> None:
        """Decides at each milestone that all trials have reached."""
        # A searcher makes trials little by little. Those that it has still to make are waited for.
        expected = getattr(tune_controller.search_alg, "total_samples", 0) or 0
        while (milestone := self._milestone) is not None:
            racing = [one for one in self._runners.values() if one.point not in self._dropped]
            is_open = any(not one.has_ended and one.reached < milestone for one in racing)
            if is_open or len(self._runners) < expected or all(one.has_ended for one in racing):
                return
            self._decide(racing, milestone)
            self._num_rounds += 1

    def _decide(self, racing: list[_Runner], milestone: int) -> None:
        points = list(dict.fromkeys(runner.point for runner in racing))
        seeds = list(dict.fromkeys(runner.seed for runner in racing))
        values = np.full((len(points), len(seeds)), math.nan)
        for runner in racing:
            place = points.index(runner.point), seeds.index(runner.seed)
            values[place] = runner.value_at(milestone)

        assert self._mode is not None
        compared = compare_points(values, mode=self._mode, level=self._level)
        for point, result in zip(points, compared.points, strict=True):
            if result.mark == "worse":
                self._dropped[point] = milestone


def _kind_of(value: Any) -> str:
    """Stands for an object, whose own text may hold an address."""
    return value.__qualname__ if isinstance(value, type) else type(value).__qualname__
