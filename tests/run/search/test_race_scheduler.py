"""A race drops points that are worse than the best over the same seeds, and keeps all others."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray import tune
from ray.tune import ExperimentAnalysis, ResultGrid
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from benchmarks.simulated_race import METRIC, PlantedArms, run_race
from rllib_dapo.run.search.race_milestones import dropped_at, dropped_reason, milestones
from rllib_dapo.run.search.race_scheduler import RaceScheduler
from rllib_dapo.run.search.searchers import OpenVariantGenerator
from rllib_dapo.run.search.stoppers import SchedulerReason

# The best arm gains 0.06 more than the second one, and that 0.01 more than the next.
GAINS = (0.30, *(0.24 - 0.01 * place for place in range(8)))
LENGTH = 30


def _race(**options: Any) -> RaceScheduler:
    return RaceScheduler(max_t=LENGTH, **options)


def test_points_are_compared_on_the_way_and_not_at_the_end() -> None:
    assert milestones(30) == (5, 10, 15, 20, 25)
    assert milestones(30, grace_period=10) == (10, 20)
    assert milestones(30, grace_period=4, interval=12) == (4, 16, 28)
    assert milestones(30, step=10) == (10, 20)
    assert milestones(3) == (1, 2)
    assert milestones(1) == ()
    assert milestones(8, grace_period=8) == ()


@pytest.mark.parametrize("at_once", [1, 9, 45])
def test_the_best_of_nine_arms_is_found_with_half_of_the_iterations(at_once: int) -> None:
    arms = PlantedArms(gains=GAINS, num_iterations=LENGTH)
    found, shares = 0, []
    for seed in range(20):
        curves = arms.curves(np.random.default_rng(seed))
        outcome = run_race(_race(), curves, at_once=at_once)
        found += outcome.found == 0
        shares.append(outcome.iterations.sum() / curves.size)
        # The seeds of an arm end together: at a milestone, or at the end.
        assert all(len(set(of_arm)) == 1 for of_arm in outcome.iterations)
    assert found >= 18
    assert max(shares) <= 0.5


def test_how_many_trials_run_at_once_changes_nothing() -> None:
    curves = PlantedArms(gains=GAINS, num_iterations=LENGTH).curves(np.random.default_rng(3))
    one, many = (run_race(_race(), curves, at_once=at_once) for at_once in (1, 45))
    assert one.iterations.tolist() == many.iterations.tolist()


def test_of_equal_arms_none_is_dropped_in_19_of_20_races() -> None:
    arms = PlantedArms(gains=(0.3,) * 9, num_iterations=LENGTH)
    whole = 0
    for seed in range(40):
        outcome = run_race(_race(), arms.curves(np.random.default_rng(seed)), at_once=45)
        whole += len(outcome.finished) == 9
    assert whole >= 38


def test_less_is_better_where_the_mode_says_so() -> None:
    curves = np.zeros((2, 3, 12)) + np.array([0.9, 0.1])[:, None, None]
    scheduler = RaceScheduler(max_t=12, mode="min", confidence=0.9)
    scheduler.set_search_properties(METRIC, None)
    controller = _Tuner(scheduler)
    for seed in range(3):
        for arm in range(2):
            controller.add({"arm": arm, "seed": seed})
    noise = np.random.default_rng(0).normal(0, 0.001, curves.shape)
    decisions = controller.round(curves + noise, iteration=2)
    assert controller.dropped(decisions) == {0}


class _Tuner:
    """Just enough of Tune's controller to report a whole round of results."""

    def __init__(self, scheduler: RaceScheduler) -> None:
        self.search_alg = SimpleNamespace(total_samples=0)
        self._actor_cache = SimpleNamespace(increase_max=lambda factory: None)
        self.scheduler, self.trials, self.stopped = scheduler, [], []

    def add(self, params: dict[str, Any], **state: Any) -> Trial:
        name = f"race_{len(self.trials):05}"
        trial = Trial("t", config=params, evaluated_params=params, trial_id=name, stub=True)
        if "result" in state:
            trial.update_last_result(state["result"])
        trial.set_status(state.get("status", Trial.RUNNING))
        self.trials.append(trial)
        self.scheduler.on_trial_add(self, trial)
        return trial

    def get_trials(self) -> list[Trial]:
        return self.trials

    def _mark_trial_to_checkpoint(self, trial: Trial) -> None:
        assert trial.is_finished()

    def stop_trial(self, trial: Trial) -> None:
        self.stopped.append(trial)
        self.scheduler.on_trial_remove(self, trial)
        trial.set_status(Trial.TERMINATED)

    def result(self, trial: Trial, value: float, iteration: int) -> str:
        result = {"training_iteration": iteration, METRIC: value}
        decision = self.scheduler.on_trial_result(self, trial, result)
        trial.update_last_result(result)
        if decision == TrialScheduler.PAUSE:
            trial.set_status(Trial.PAUSED)
        return decision

    def round(self, curves: np.ndarray, *, iteration: int) -> dict[Trial, str]:
        return {
            trial: self.result(
                trial,
                curves[trial.config["arm"], trial.config["seed"], iteration - 1],
                iteration,
            )
            for trial in self.trials
            if not trial.is_finished()
        }

    def dropped(self, decisions: dict[Trial, str]) -> set[int]:
        self.scheduler.choose_trial_to_run(self)
        stopped = {trial for trial, one in decisions.items() if one == TrialScheduler.STOP}
        return {trial.config["arm"] for trial in (*stopped, *self.stopped)}


def _started(scheduler: RaceScheduler, *, num_arms: int = 2, num_seeds: int = 4) -> _Tuner:
    scheduler.set_search_properties(METRIC, "max")
    controller = _Tuner(scheduler)
    for seed in range(num_seeds):
        for arm in range(num_arms):
            controller.add({"arm": arm, "seed": seed})
    return controller


def _curves(num_seeds: int = 4) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 0.01, (2, num_seeds, 12))
    return np.array([0.9, 0.1])[:, None, None] + noise


def test_trials_wait_for_each_other_and_a_dropped_one_says_why() -> None:
    controller = _started(RaceScheduler(max_t=12))
    decisions = controller.round(_curves(), iteration=1)
    assert set(decisions.values()) == {TrialScheduler.CONTINUE}

    *others, last = controller.round(_curves(), iteration=2).values()
    assert set(others) == {TrialScheduler.PAUSE}
    assert last == TrialScheduler.STOP  # of the arm that is worse

    chosen = controller.scheduler.choose_trial_to_run(controller)
    assert chosen is not None
    assert chosen.config["arm"] == 0
    assert {trial.config["arm"] for trial in controller.stopped} == {1}
    for trial in controller.stopped:
        assert trial.last_result["done"]
        assert dropped_at(trial.last_result["stop_reason"]) == 2

    # Only one point is left: its trials go on to the end without a pause.
    goes_on = controller.result(chosen, 0.9, 4)
    assert goes_on == TrialScheduler.CONTINUE


def test_the_trial_that_closes_a_round_has_the_same_reason() -> None:
    result: dict[str, Any] = {"training_iteration": 2, "done": True}
    SchedulerReason("race").on_trial_result(1, [], SimpleNamespace(), result)  # type: ignore[arg-type]
    assert result["stop_reason"] == dropped_reason(2)
    assert dropped_at("race: others did better") is None
    assert dropped_at(None) is None


def test_a_failed_trial_is_not_waited_for_and_its_seed_is_not_compared() -> None:
    controller = _started(RaceScheduler(max_t=12))
    failed = controller.trials[0]
    failed.set_status(Trial.ERROR)
    controller.scheduler.on_trial_error(controller, failed)
    decisions = controller.round(_curves(), iteration=2)
    assert controller.dropped(decisions) == {1}


def test_the_last_value_of_a_trial_that_ended_early_counts_on() -> None:
    controller = _started(RaceScheduler(max_t=12), num_seeds=3)
    curves = _curves(3)
    ended = controller.trials[0]
    result = {"training_iteration": 1, METRIC: 0.9, "done": True}
    ended.update_last_result(result)
    controller.scheduler.on_trial_complete(controller, ended, result)
    ended.set_status(Trial.TERMINATED)
    assert controller.dropped(controller.round(curves, iteration=2)) == {1}


def test_trials_that_the_searcher_has_still_to_make_are_waited_for() -> None:
    controller = _started(RaceScheduler(max_t=12))
    controller.search_alg.total_samples = 9
    decisions = controller.round(_curves(), iteration=2)
    assert set(decisions.values()) == {TrialScheduler.PAUSE}
    assert controller.scheduler.choose_trial_to_run(controller) is None


def test_a_resumed_race_knows_what_was_reached_and_what_was_dropped() -> None:
    scheduler = RaceScheduler(max_t=12)
    scheduler.set_search_properties(METRIC, "max")
    controller = _Tuner(scheduler)
    values = {0: [0.91, 0.92, 0.90], 1: [0.1, 0.12, 0.11], 2: [0.5, 0.51, 0.52]}
    for seed in range(3):
        for arm, of_arm in values.items():
            result = {"training_iteration": 2, METRIC: of_arm[seed]}
            state: dict[str, Any] = {"result": result, "status": Trial.PENDING}
            if (arm, seed) == (1, 0):  # the others of its point were still to be stopped
                state["status"] = Trial.TERMINATED
                result |= {"done": True, "stop_reason": dropped_reason(2)}
            controller.add({"arm": arm, "seed": seed}, **state)

    for trial in controller.trials:
        if trial.config["arm"] == 1 and not trial.is_finished():
            assert controller.result(trial, 0.1, 3) == TrialScheduler.STOP
            scheduler.on_trial_complete(controller, trial, trial.last_result)
            trial.set_status(Trial.TERMINATED)
    curves = np.array([[0.9], [0.1], [0.5]])[:, :, None] + np.random.default_rng(0).normal(
        0, 0.01, (3, 3, 12)
    )
    assert controller.dropped(controller.round(curves, iteration=4)) == {2}


class Arm(tune.Trainable):
    """A learning curve."""

    def setup(self, config: dict[str, Any]) -> None:
        self._seed, self._gain = config["seed"], config["gain"]

    def step(self) -> dict[str, float]:
        noise = np.random.default_rng([self._seed, self.iteration]).normal(0, 0.05)
        own = np.random.default_rng([self._seed, int(100 * self._gain)]).normal(0, 0.005)
        return {METRIC: self._gain * (self.iteration + 1) / 6 + noise + own}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "state.json").write_text(json.dumps({"iteration": self.iteration}))

    def load_checkpoint(self, checkpoint: Any) -> None:
        state = json.loads(Path(checkpoint, "state.json").read_text())
        assert state["iteration"] == self.iteration

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True


@pytest.mark.slow
def test_tune_itself_races(cluster: None, tmp_path: Path) -> None:
    gains = [0.3, 0.9]
    grid = tune.Tuner(
        tune.with_resources(Arm, {"cpu": 2}),
        param_space={"gain": tune.grid_search(gains), "seed": tune.grid_search([0, 1, 2])},
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            scheduler=RaceScheduler(max_t=4, grace_period=2),
            search_alg=OpenVariantGenerator(),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            name="race",
            stop={"training_iteration": 4},
            callbacks=[SchedulerReason("race", max_t=4)],
            verbose=0,
        ),
    ).fit()
    assert not grid.errors
    ended = {
        (result.config["gain"], result.config["seed"]): result.metrics["training_iteration"]
        for result in grid
    }
    assert [ended[0.9, seed] for seed in range(3)] == [4, 4, 4]
    assert [ended[0.3, seed] for seed in range(3)] == [2, 2, 2]
    # What is kept in the folder says the same, so that a resumed sweep leaves them as they are.
    kept = ResultGrid(ExperimentAnalysis(str(tmp_path / "race")))
    assert all(result.metrics["done"] for result in kept)
    reasons = {dropped_at(result.metrics.get("stop_reason")) for result in kept}
    assert reasons == {None, 2}
    assert all(result.metrics["done"] for result in grid)
    assert all(result.checkpoint is not None for result in grid if result.config["gain"] < 0.9)
