"""Tune's schedulers as a run file names them: `tune.scheduler: {type: asha, grace_period: 2}`.

The options are those of Ray's classes, under the same names. Time is always counted in training
iterations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray.rllib.utils.annotations import override
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)

from rllib_dapo.ray_internals import keep_one_more_actor
from rllib_dapo.run.search.option_checks import (
    OptionCheck,
    at_least_zero,
    check_options,
    count,
    is_number,
    switch,
)
from rllib_dapo.run.search.race_milestones import milestones

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

    from rllib_dapo.run.search.mutations import Mutations

# Number of checkpoints that a trial keeps in population based training: another trial may take one
# over while the next ones are written.
PBT_KEEPS = 4
_TIME = "training_iteration"


def _over_one(value: Any) -> str | None:
    return None if is_number(value) and value > 1 else "a number over 1"


def _share_up_to(most: float) -> OptionCheck:
    def check(value: Any) -> str | None:
        return None if is_number(value) and 0 <= value <= most else f"a number in [0, {most:g}]"

    return check


def _factors(value: Any) -> str | None:
    fits = isinstance(value, list) and value and all(is_number(one) and one > 0 for one in value)
    return None if fits else "a list of numbers over 0, such as [0.8, 1.2]"


def _confidence(value: Any) -> str | None:
    fits = is_number(value) and 0.5 < value < 1
    return None if fits else "a number between 0.5 and 1, such as 0.95"


OPTIONS: Mapping[str, Mapping[str, OptionCheck]] = {
    "fifo": {},
    "asha": {
        "max_t": count,
        "grace_period": count,
        "reduction_factor": _over_one,
        "brackets": count,
    },
    "pbt": {
        "perturbation_interval": count,
        "burn_in_period": at_least_zero,
        "quantile_fraction": _share_up_to(0.5),
        "resample_probability": _share_up_to(1.0),
        "perturbation_factors": _factors,
        "synch": switch,
    },
    "race": {
        "grace_period": count,
        "interval": count,
        "confidence": _confidence,
    },
}
_NO_PB2 = (
    "tune.scheduler.type='pb2': Ray's PB2 needs scikit-learn, which this package does not bring, "
    "and searches in ranges alone: use pbt, or asha and race, which end trials"
)


def check_scheduler(
    content: Mapping[str, Any],
    *,
    iterations: float | None,
    searched: Sequence[str],
    has_variants: bool,
    metric: str,
    evaluation_interval: int | None,
) -> Iterator[str]:
    """Findings on `tune.scheduler` together with the rest of a run file.

    Args:
        content: Value of `tune.scheduler`.
        iterations: Length of a trial, where `stop.training_iteration` sets it.
        searched: Names of the settings that are searched for.
        has_variants: Whether the file has variants.
        metric: Metric by which trials are compared.
        evaluation_interval: Iterations between evaluations; None if there are none.

    Yields:
        One line for each finding.
    """
    if content.get("type") == "pb2":
        yield _NO_PB2
        return
    findings = list(check_options("tune.scheduler", content, OPTIONS))
    yield from findings
    if findings:
        return

    if content["type"] == "asha":
        yield from _check_asha(content, iterations=iterations)
    if content["type"] == "race":
        is_evaluated = metric.startswith("evaluation/")
        yield from _check_race(content, iterations, evaluation_interval if is_evaluated else None)
    if content["type"] == "pbt":
        if not searched:
            yield (
                "tune.scheduler: pbt changes the settings that are searched for, and there are "
                "none: give spaces in `search`"
            )
        if has_variants:
            yield (
                "tune.scheduler: pbt mixes the settings of trials, which variants keep apart: "
                "leave out one of the two"
            )
        yield from _check_interval(content, metric=metric, evaluation_interval=evaluation_interval)


def _check_asha(content: Mapping[str, Any], *, iterations: float | None) -> Iterator[str]:
    max_t, grace = content.get("max_t", iterations), content.get("grace_period", 1)
    if max_t is None:
        yield (
            "tune.scheduler: asha must know how long a trial is: set stop.training_iteration, or "
            "its max_t"
        )
    elif grace > max_t:
        yield (
            f"tune.scheduler.grace_period={grace} must not be over the {max_t:g} iterations of a "
            "trial"
        )


def _check_race(
    content: Mapping[str, Any], iterations: float | None, evaluation_interval: int | None
) -> Iterator[str]:
    if iterations is None:
        yield ("tune.scheduler: race must know how long a trial is: set stop.training_iteration")
        return
    first, interval = content.get("grace_period"), content.get("interval")
    step = evaluation_interval or 1
    planned = milestones(int(iterations), grace_period=first, interval=interval, step=step)
    if not planned:
        yield (
            f"tune.scheduler.grace_period={first or step}: race compares trials on the way, so it "
            f"must be under the {iterations:g} iterations of a trial"
        )
    elif any(iteration % step for iteration in planned):
        yield (
            f"tune.scheduler: race has its first comparisons at iterations {list(planned[:2])}: "
            "grace_period and interval must be multiples of "
            f"evaluation.evaluation_interval={step}, since only evaluations report "
            "tune.metric"
        )


def _check_interval(
    content: Mapping[str, Any], *, metric: str, evaluation_interval: int | None
) -> Iterator[str]:
    """Population based training compares trials at its interval, so the metric must be there."""
    interval = int(content.get("perturbation_interval", 1))
    is_measured = evaluation_interval and interval % evaluation_interval == 0
    if metric.startswith("evaluation/") and not is_measured:
        yield (
            f"tune.scheduler.perturbation_interval={interval} must be a multiple of "
            f"evaluation.evaluation_interval={evaluation_interval}, since only evaluations report "
            f"tune.metric={metric}"
        )


class EngineKeepingPBT(PopulationBasedTraining):
    """Ray's population based training, with the actors of all paused trials kept alive.

    All trials are paused at once at the end of each round. Tune would keep one actor that no trial
    is waiting for and stop the others, and with an actor its engine.
    """

    @override(PopulationBasedTraining)
    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Makes room for one more actor among those that are kept."""
        super().on_trial_add(tune_controller, trial)
        keep_one_more_actor(tune_controller, trial)


def make_scheduler(
    content: Mapping[str, Any],
    *,
    iterations: float | None,
    mutations: Mutations | None,
    evaluation_interval: int | None = None,
) -> TrialScheduler:
    """Builds a scheduler, whose metric and mode come from `TuneConfig`.

    Args:
        content: Value of `tune.scheduler`, checked by `check_scheduler`.
        iterations: Length of a trial, where that is known.
        mutations: What population based training may change.
        evaluation_interval: Iterations between two values of the metric, where evaluations report
            it.
    """
    options = {name: value for name, value in content.items() if name != "type"}

    if content["type"] == "asha":
        return ASHAScheduler(time_attr=_TIME, **{"max_t": iterations, **options})

    if content["type"] == "pbt":
        assert mutations is not None
        return EngineKeepingPBT(
            time_attr=_TIME,
            hyperparam_mutations=mutations.distributions(),
            custom_explore_fn=mutations,
            require_attrs=False,  # an evaluation's metric is not in every result
            # Trials that take turns on one machine are not at the same iteration. One that took
            # over from a trial behind it would go back, perhaps endlessly. So each round waits for
            # all trials.
            **{"perturbation_interval": 1, "synch": True, "log_config": False, **options},
        )

    if content["type"] == "race":
        # SciPy's statistics take a while to load.
        from rllib_dapo.run.search.race_scheduler import RaceScheduler

        assert iterations is not None
        return RaceScheduler(max_t=int(iterations), step=evaluation_interval or 1, **options)

    return FIFOScheduler()
