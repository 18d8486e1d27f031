"""Planted arms in a race: the real scheduler and Tune's real trials, in a loop that trains nothing.

An arm is a learning curve, and a trial of it the curve with noise. What a seed does at an iteration
it does to all arms alike, as trials with the same seed begin with the same responses. Beside it,
each trial has luck of its own, which lasts, and each of its measurements an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

METRIC = "accuracy"


@dataclass(frozen=True, kw_only=True)
class PlantedArms:
    """How arms are planted.

    Attributes:
        gains: Of each arm, by how much the metric grows until the end.
        num_seeds: Number of seeds under which each arm runs.
        num_iterations: Iterations of a trial.
        shared_noise: Standard deviation of what a seed does to all arms alike at an iteration.
        own_noise: The same for a trial's lasting luck.
        measurement_noise: The same for the error of one measurement.
    """

    gains: tuple[float, ...]
    num_seeds: int = 5
    num_iterations: int = 30
    shared_noise: float = 0.05
    own_noise: float = 0.01
    measurement_noise: float = 0.01

    def curves(self, rng: np.random.Generator) -> np.ndarray:
        """Draws a sweep: the metric by arm, seed and iteration."""
        shape = len(self.gains), self.num_seeds, self.num_iterations
        # Most of what is learned is learned early.
        progress = 1 - np.exp(-3 * np.arange(1, shape[2] + 1) / shape[2])
        learned = np.array(self.gains)[:, None, None] * progress
        shared = rng.normal(0, self.shared_noise, (1, *shape[1:]))
        own = rng.normal(0, self.own_noise, (*shape[:2], 1))
        return 0.3 + learned + shared + own + rng.normal(0, self.measurement_noise, shape)


@dataclass(frozen=True, kw_only=True)
class RaceOutcome:
    """What a race has done.

    Attributes:
        iterations: Iterations that each trial made, by arm and seed.
        finished: The arms whose trials came to their end.
        found: The arm with the best mean of last values among those.
    """

    iterations: np.ndarray
    finished: tuple[int, ...]
    found: int


def run_race(scheduler: Any, curves: np.ndarray, *, at_once: int) -> RaceOutcome:
    """Drives a scheduler through a sweep as Tune's controller does.

    Args:
        scheduler: A scheduler, without trials.
        curves: The metric by arm, seed and iteration.
        at_once: Number of trials that there is room for.
    """
    num_arms, num_seeds, num_iterations = curves.shape
    controller = _Controller(scheduler, total_samples=num_arms * num_seeds)
    scheduler.set_search_properties(METRIC, "max")
    for seed in range(num_seeds):
        for arm in range(num_arms):
            controller.add({"arm": arm, "seed": seed})

    done = np.zeros((num_arms, num_seeds), dtype=int)
    while running := controller.start_trials(at_once):
        for trial in running:
            place = trial.config["arm"], trial.config["seed"]
            result = {
                "training_iteration": int(done[place]) + 1,
                METRIC: float(curves[(*place, done[place])]),
            }
            done[place] += 1
            controller.report(trial, result, is_last=done[place] == num_iterations)

    is_whole = (done == num_iterations).all(axis=1)
    means = np.where(is_whole, curves[:, :, -1].mean(axis=1), -np.inf)
    return RaceOutcome(
        iterations=done,
        finished=tuple(int(arm) for arm in np.nonzero(is_whole)[0]),
        found=int(np.argmax(means)),
    )


class _Controller:
    """What a scheduler sees of Tune's controller."""

    def __init__(self, scheduler: Any, *, total_samples: int) -> None:
        self.search_alg = SimpleNamespace(total_samples=total_samples)
        self._actor_cache = SimpleNamespace(increase_max=lambda factory: None)
        self._scheduler = scheduler
        self._trials: list[Trial] = []

    def add(self, params: dict[str, Any]) -> None:
        trial = Trial(
            "simulated",
            config=dict(params),
            evaluated_params=dict(params),
            trial_id=f"race_{len(self._trials):05}",
            stub=True,
        )
        self._trials.append(trial)
        self._scheduler.on_trial_add(self, trial)

    def _mark_trial_to_checkpoint(self, trial: Trial) -> None:
        pass

    def get_trials(self) -> list[Trial]:
        return self._trials

    def start_trials(self, at_once: int) -> list[Trial]:
        """Starts as many trials as fit, and returns all that run."""
        running = [trial for trial in self._trials if trial.status == Trial.RUNNING]
        while len(running) < at_once:
            trial = self._scheduler.choose_trial_to_run(self)
            if trial is None:
                break
            trial.set_status(Trial.RUNNING)
            running.append(trial)
        return running

    def report(self, trial: Trial, result: dict[str, Any], *, is_last: bool) -> None:
        """Has the scheduler decide on a result, unless the trial is at its end."""
        if trial.status != Trial.RUNNING:
            return
        decision = TrialScheduler.STOP
        if not is_last:
            decision = self._scheduler.on_trial_result(self, trial, result)
        trial.update_last_result(dict(result))
        if decision == TrialScheduler.PAUSE:
            trial.set_status(Trial.PAUSED)
        elif decision == TrialScheduler.STOP:
            self.stop_trial(trial)

    def stop_trial(self, trial: Trial) -> None:
        if trial.status == Trial.RUNNING:
            self._scheduler.on_trial_complete(self, trial, trial.last_result)
        else:
            self._scheduler.on_trial_remove(self, trial)
        trial.set_status(Trial.TERMINATED)
