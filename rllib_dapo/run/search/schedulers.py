"""Tune's schedulers as a run file names them: `tune.scheduler: {type: asha, grace_period: 2}`.

The options are those of Ray's classes, by their names; time is always counted in training
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

from rllib_dapo.run.search.options import OptionCheck, check_options, count, is_number

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

    from rllib_dapo.run.search.clip_bounds import Mutations

# As many checkpoints of a trial as may be exploited before the next one is written.
PBT_KEEPS = 4
_TIME = "training_iteration"


def _share(value: Any, *, most: float) -> str | None:
    return None if is_number(value) and 0 <= value <= most else f"a number in [0, {most:g}]"


def _factors(value: Any) -> str | None:
    fits = isinstance(value, list) and value and all(is_number(one) and one > 0 for one in value)
    return None if fits else "a list of numbers over 0, such as [0.8, 1.2]"


OPTIONS: Mapping[str, Mapping[str, OptionCheck]] = {
    "fifo": {},
    "asha": {
        "max_t": count,
        "grace_period": count,
        "reduction_factor": lambda value: (
            None if is_number(value) and value > 1 else "a number over 1"
        ),
        "brackets": count,
    },
    "pbt": {
        "perturbation_interval": count,
        "burn_in_period": lambda value: (
            None if is_number(value) and value >= 0 else "a number of at least 0"
        ),
        "quantile_fraction": lambda value: _share(value, most=0.5),
        "resample_probability": lambda value: _share(value, most=1.0),
        "perturbation_factors": _factors,
        "synch": lambda value: None if isinstance(value, bool) else "true or false",
    },
}


def check_scheduler(
    content: Mapping[str, Any],
    *,
    iterations: float | None,
    searched: Sequence[str],
    has_variants: bool,
    metric: str,
    evaluation_interval: int | None,
) -> Iterator[str]:
    """Findings on `tune.scheduler` beside the rest of a run file.

    Args:
        content: What stands there.
        iterations: Of a trial, where `stop.training_iteration` says so.
        searched: Settings that are searched for.
        has_variants: Whether the file has variants.
        metric: By which trials are compared.
        evaluation_interval: Iterations between evaluations, if there are any.

    Yields:
        One line for each finding.
    """
    found = list(check_options("tune.scheduler", content, OPTIONS))
    yield from found
    if found or content["type"] == "fifo":
        return
    if content["type"] == "asha":
        max_t, grace = content.get("max_t", iterations), content.get("grace_period", 1)
        if max_t is None:
            yield "tune.scheduler: asha must know how long a trial is: set stop.training_iteration, or its max_t"
        elif grace > max_t:
            yield f"tune.scheduler.grace_period={grace} must not be over the {max_t:g} iterations of a trial"
        return
    if not searched:
        yield "tune.scheduler: pbt changes what is searched for, and nothing is: give spaces in `search`"
    if has_variants:
        yield "tune.scheduler: pbt mixes the settings of trials, which variants keep apart: leave out one of the two"
    interval = int(content.get("perturbation_interval", 1))
    if metric.startswith("evaluation/") and (
        not evaluation_interval or interval % evaluation_interval
    ):
        yield (
            f"tune.scheduler.perturbation_interval={interval} must be a multiple of evaluation.evaluation_interval="
            f"{evaluation_interval}, since tune.metric={metric} is in the results of evaluations alone"
        )


class EngineKeepingPBT(PopulationBasedTraining):
    """Ray's, which keeps the actors of all trials that are paused at once, as they are at the end of each round.

    Tune keeps one of those that no trial waits for, and stops the others, and their engines with
    them.
    """

    @override(PopulationBasedTraining)
    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Asks for room for one more actor among those that are kept."""
        super().on_trial_add(tune_controller, trial)
        tune_controller._actor_cache.increase_max(trial.placement_group_factory)


def make_scheduler(
    content: Mapping[str, Any], *, iterations: float | None, mutations: Mutations | None
) -> TrialScheduler:
    """Builds a scheduler; its metric and mode come from `TuneConfig`.

    Args:
        content: Checked by `check_scheduler`.
        iterations: Of a trial, where that is known.
        mutations: What population based training may change.
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
            # Trials that take turns on one machine are not at the same iteration, and one that took
            # over from a trial behind it would go back, perhaps without end. So all are waited for.
            **{"perturbation_interval": 1, "synch": True, "log_config": False, **options},
        )
    return FIFOScheduler()
