"""One run: Tune around DAPO."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ray import tune
from ray.tune.experiment import Trial

from rllib_dapo.config.actor_reuse import fixed_differences
from rllib_dapo.ray_internals import make_resumable, restored_run_config
from rllib_dapo.run.interruption import Interruption
from rllib_dapo.run.progress import ProgressLine
from rllib_dapo.run.quiet_ray import quiet_ray
from rllib_dapo.run.resume_plan import ResumePlan
from rllib_dapo.run.run_folder import keep_param_space, kept_param_space
from rllib_dapo.run.run_record import RunRecord, TrialCount, write_record
from rllib_dapo.run.run_settings import RunSettings
from rllib_dapo.run.search.mutations import Mutations
from rllib_dapo.run.search.schedulers import make_scheduler
from rllib_dapo.run.search.searchers import make_searcher
from rllib_dapo.run.search.stoppers import RunStopper, SchedulerReason
from rllib_dapo.run.shared_engines import engines_of_run
from rllib_dapo.run.worker_log import WorkerLog


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """What came out of a run.

    Attributes:
        grid: One result for each trial; `result.error` tells whether it failed.
        folder: The run's folder or URI.
        exceptions: The first exceptions that workers printed: often the cause of a trial's failure.
        record: What the run was started with.
        signal_number: The signal that interrupted it; None if none did.
    """

    grid: tune.ResultGrid
    folder: str
    exceptions: tuple[str, ...]
    record: RunRecord
    signal_number: int | None = None


def run(settings: RunSettings, folder: str) -> RunResult:
    """Trains.

    Args:
        settings: The run, checked by `preflight.check_run`.
        folder: The run's folder, see `run_folder.new_run`.
    """
    storage, _, name = folder.rpartition("/")
    keep_param_space(settings.config, folder)
    write_record(settings.record, folder)

    interruption, config = _run_config(settings, folder, name=name, storage=storage)
    with quiet_ray(settings, folder) as log, engines_of_run(settings):
        tuner = tune.Tuner(
            "DAPO",
            param_space=settings.config,
            tune_config=_tune_config(settings),
            run_config=config,
        )
        return _result(tuner.fit(), folder, log, settings.record, interruption)


def resume(settings: RunSettings, folder: str, plan: ResumePlan) -> RunResult:
    """Resumes a run, with the settings it was started with, and ends it as is said now.

    Args:
        settings: The same run file's; what it names is made ready.
        folder: The run's folder, see `run_folder.newest_run`.
        plan: What `plan_resume` has found.
    """
    with quiet_ray(settings, folder) as log, engines_of_run(settings):
        write_record(plan.record, folder)
        make_resumable(folder, reopened=plan.reopened, is_stop_changed=plan.is_stop_changed)
        tuner = tune.Tuner.restore(
            folder,
            trainable="DAPO",
            resume_unfinished=True,
            resume_errored=True,
            param_space=kept_param_space(folder),
        )

        storage, _, name = folder.rpartition("/")
        interruption, now = _run_config(settings, folder, name=name, storage=storage)
        config = restored_run_config(tuner)
        config.stop, config.callbacks = now.stop, now.callbacks
        return _result(tuner.fit(), folder, log, plan.record, interruption)


def can_reuse_actors(settings: RunSettings) -> bool:
    """Whether every trial can follow on every other one in the same processes.

    Tune fails a trial that cannot, so this is found out beforehand.

    Args:
        settings: The run, checked by `preflight.check_run`.
    """
    first, *others = (config.copy(copy_frozen=False) for config in settings.checked)
    for config in (first, *others):
        config.validate()
    differs = any(fixed_differences(first, other) for other in others)
    return settings.tune.reuse_actors and not differs


def total_iterations(settings: RunSettings) -> int | None:
    """Iterations until a trial ends, where the run file says so."""
    total = settings.stop.get("training_iteration")
    return None if total is None else math.ceil(total)


def trial_name(trial: Trial) -> str:
    """`trial_00003`, or `trial_00003_clip_higher` of a variant; also the name of its folder."""
    variant = trial.config.get("variant")
    return f"trial_{trial.trial_id.rpartition('_')[2]}" + (f"_{variant}" if variant else "")


def _tune_config(settings: RunSettings) -> tune.TuneConfig:
    tuning = settings.tune
    return tune.TuneConfig(
        metric=tuning.metric,
        mode=tuning.mode,
        scheduler=make_scheduler(
            tuning.scheduler,
            iterations=total_iterations(settings),
            mutations=Mutations(settings.search),
            evaluation_interval=_evaluation_interval(settings),
        ),
        # The searcher also brings the bound on concurrent trials with it.
        search_alg=make_searcher(
            tuning.searcher,
            search=settings.search,
            metric=tuning.metric,
            mode=tuning.mode,
            max_concurrent=tuning.max_concurrent_trials,
            scheduler=tuning.scheduler["type"],
            has_seeds=bool(settings.seeds),
        ),
        reuse_actors=can_reuse_actors(settings),
        num_samples=tuning.num_samples,
        trial_name_creator=trial_name,
        trial_dirname_creator=trial_name,
    )


def _evaluation_interval(settings: RunSettings) -> int | None:
    """Iterations between two values of the metric, where evaluations report it."""
    is_evaluated = settings.tune.metric.startswith("evaluation/")
    return settings.config.evaluation_interval if is_evaluated else None


def _run_config(
    settings: RunSettings, folder: str, *, name: str, storage: str
) -> tuple[Interruption, tune.RunConfig]:
    tuning = settings.tune
    line = ProgressLine(total=total_iterations(settings), followers=settings.followers)
    interruption = Interruption(line.interrupted)
    config = tune.RunConfig(
        name=name,
        storage_path=storage,
        stop=RunStopper(limits=settings.stop, rules=settings.rules),
        verbose=0,
        callbacks=[
            SchedulerReason(
                tuning.scheduler["type"],
                max_t=tuning.scheduler.get("max_t", total_iterations(settings)),
            ),
            TrialCount(folder),
            line,
            interruption,
        ],
        failure_config=tune.FailureConfig(max_failures=tuning.max_failures),
        checkpoint_config=tune.CheckpointConfig(
            checkpoint_frequency=tuning.checkpoint_frequency,
            num_to_keep=tuning.num_to_keep,
            checkpoint_at_end=True,
        ),
    )
    return interruption, config


def _result(
    grid: tune.ResultGrid,
    folder: str,
    log: WorkerLog,
    record: RunRecord,
    interruption: Interruption,
) -> RunResult:
    return RunResult(
        grid=grid,
        folder=folder,
        exceptions=log.wait_for_exception() if grid.num_errors else (),
        record=record,
        signal_number=interruption.signal_number,
    )
