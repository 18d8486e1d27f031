"""One run: Tune around DAPO, quiet but for our own lines."""

from __future__ import annotations

import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import ray
from pyarrow.fs import FileType
from ray import cloudpickle, tune
from ray.job_config import JobConfig
from ray.tune.experiment import Trial

from rllib_dapo.algorithm import DAPO
from rllib_dapo.config.actor_reuse import fixed_differences
from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.findings import SettingsError
from rllib_dapo.models import resolve_model
from rllib_dapo.ray_internals import get_fs_and_path
from rllib_dapo.run.preflight import uses_cluster
from rllib_dapo.run.progress import ProgressLine
from rllib_dapo.run.run_settings import RunSettings
from rllib_dapo.run.search.clip_bounds import Mutations
from rllib_dapo.run.search.schedulers import make_scheduler
from rllib_dapo.run.search.searchers import make_searcher
from rllib_dapo.run.search.stoppers import RunStopper, SchedulerReason
from rllib_dapo.run.worker_log import WorkerLog, worker_log

_PARAM_SPACE = "param_space.pkl"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """What came out of a run.

    Attributes:
        grid: One result for each trial; `result.error` tells whether it failed.
        folder: The run's folder or URI.
        exceptions: The first ones that any worker printed: often the cause of what a trial then
            failed with.
    """

    grid: tune.ResultGrid
    folder: str
    exceptions: tuple[str, ...]


def run(settings: RunSettings, folder: str) -> RunResult:
    """Trains.

    Args:
        settings: Checked by `preflight.check_run`.
        folder: The run's folder, see `new_run`.
    """
    tuning = settings.tune
    storage, _, name = folder.rpartition("/")
    _keep_param_space(settings.config, folder)
    with quiet_ray(settings, folder) as log:
        tuner = tune.Tuner(
            "DAPO",
            param_space=settings.config,
            tune_config=tune.TuneConfig(
                metric=tuning.metric,
                mode=tuning.mode,
                scheduler=make_scheduler(
                    tuning.scheduler,
                    iterations=total_iterations(settings),
                    mutations=Mutations(settings.search),
                ),
                # It brings metric, mode and the bound on concurrent trials with it.
                search_alg=make_searcher(
                    tuning.searcher,
                    search=settings.search,
                    metric=tuning.metric,
                    mode=tuning.mode,
                    max_concurrent=tuning.max_concurrent_trials,
                    scheduler=tuning.scheduler["type"],
                ),
                reuse_actors=can_reuse_actors(settings),
                num_samples=tuning.num_samples,
                trial_name_creator=trial_name,
                trial_dirname_creator=trial_name,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=storage,
                stop=RunStopper(limits=settings.stop, rules=settings.rules),
                verbose=0,
                callbacks=[
                    SchedulerReason(tuning.scheduler["type"], max_t=tuning.scheduler.get("max_t")),
                    ProgressLine(total=total_iterations(settings), followers=settings.followers),
                ],
                failure_config=tune.FailureConfig(max_failures=tuning.max_failures),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=tuning.checkpoint_frequency,
                    num_to_keep=tuning.num_to_keep,
                    checkpoint_at_end=True,
                ),
            ),
        )
        return _result(tuner.fit(), folder, log)


def resume(settings: RunSettings, folder: str) -> RunResult:
    """Goes on with an interrupted run, with the settings it was started with.

    Args:
        settings: Of the same run file; what they name is made ready.
        folder: The run's folder, see `newest_run`.
    """
    with quiet_ray(settings, folder) as log:
        tuner = tune.Tuner.restore(
            folder,
            trainable="DAPO",
            resume_unfinished=True,
            resume_errored=True,
            param_space=_kept_param_space(folder),
        )
        return _result(tuner.fit(), folder, log)


def _keep_param_space(config: DAPOConfig, folder: str) -> None:
    """Writes what trials are made of beside Tune's own state, which holds it for the trials that there are already.

    Trials that a resumed sweep has yet to make need the whole of it: Tune's state of the search has
    placeholders for what is neither a number nor a word.
    """
    filesystem, path = get_fs_and_path(folder)
    filesystem.create_dir(path, recursive=True)
    with filesystem.open_output_stream(f"{path}/{_PARAM_SPACE}") as file:
        file.write(cloudpickle.dumps(config.to_dict()))


def _kept_param_space(folder: str) -> dict[str, Any] | None:
    """What `_keep_param_space` wrote, if it did.

    Like Tune's own state beside it, it is a pickle: go on only with runs that you trust.
    """
    filesystem, path = get_fs_and_path(folder)
    if filesystem.get_file_info(f"{path}/{_PARAM_SPACE}").type is FileType.NotFound:
        return None
    with filesystem.open_input_stream(f"{path}/{_PARAM_SPACE}") as file:
        return dict(cloudpickle.loads(file.read()))


def _result(grid: tune.ResultGrid, folder: str, log: WorkerLog) -> RunResult:
    return RunResult(
        grid=grid, folder=folder, exceptions=log.wait_for_exception() if grid.num_errors else ()
    )


def new_run(name: str, storage: str) -> str:
    """The folder of a run that starts now, under a folder or URI."""
    return f"{_absolute(storage)}/{name}_{datetime.now():%Y-%m-%d_%H-%M-%S}"


def newest_run(name: str, storage: str) -> str:
    """The newest run of a name under a folder, or the run that lies in that folder or URI itself.

    Raises:
        SettingsError: If there is none.
    """
    root = _absolute(storage)
    if tune.Tuner.can_restore(root):
        return root
    found = [
        path for path in Path(root).glob(f"{name}_*-*-*_*-*-*") if tune.Tuner.can_restore(path)
    ]
    if not found:
        raise SettingsError(
            f"--resume: no run of {name!r} under {storage}: leave out --resume, or name its --storage"
        )
    return str(max(found, key=lambda path: path.name))


def _absolute(storage: str) -> str:
    """A folder as seen from here, since Ray's workers run in other folders; a URI as it is."""
    return storage.rstrip("/") if "://" in storage else str(Path(storage).expanduser().absolute())


def can_reuse_actors(settings: RunSettings) -> bool:
    """Whether every trial can follow on every other one in the same processes; Tune fails a trial that cannot.

    Args:
        settings: Checked by `preflight.check_run`.
    """
    first, *others = (config.copy(copy_frozen=False) for config in settings.checked)
    for config in (first, *others):
        config.validate()
    return settings.tune.reuse_actors and not any(
        fixed_differences(first, other) for other in others
    )


def total_iterations(settings: RunSettings) -> int | None:
    """Iterations until a trial ends, where the run file says so."""
    total = settings.stop.get("training_iteration")
    return None if total is None else math.ceil(total)


def trial_name(trial: Trial) -> str:
    """`trial_00003`, or `trial_00003_clip_higher` of a variant: short, and the same for the trial's folder."""
    variant = trial.config.get("variant")
    return f"trial_{trial.trial_id.rpartition('_')[2]}" + (f"_{variant}" if variant else "")


@contextmanager
def quiet_ray(settings: RunSettings, folder: str) -> Iterator[WorkerLog]:
    """Ray, with its workers' chatter kept to a file; shut down at the end only if it was started here."""
    silence()
    if not uses_cluster():
        # A built-in model is made once, here, where one can see how far it is.
        for name in {str(config.model_name) for config in settings.checked}:
            resolve_model(name)
    started = not ray.is_initialized()
    if started:
        job = JobConfig(
            metadata={"job_name": folder.rpartition("/")[2], "run_file": settings.source}
        )
        url = ray.init(logging_level=logging.ERROR, job_config=job).dashboard_url
        # Names that were registered before go with the Ray that was running then.
        tune.register_trainable("DAPO", DAPO, warn=False)
        if url:
            sys.stdout.write(f"dashboard: http://{url} (its token: ray get-auth-token)\n")
            sys.stdout.flush()
    try:
        with worker_log(worker_log_path(folder)) as log:
            yield log
    finally:
        if started:
            ray.shutdown()


def worker_log_path(folder: str) -> Path:
    """Where a run's worker output is kept: in its folder, or under the usual one where that is a URI."""
    local = (
        Path(folder)
        if "://" not in folder
        else Path("~/ray_results", folder.rpartition("/")[2]).expanduser()
    )
    return local / "workers.log"


def silence() -> None:
    """Turns off what Ray and its libraries say to developers of them."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    # Seconds between the snapshots that an interrupted run goes on from. Tune takes 10, in which a
    # trial may well end.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = (
        "1"  # an evaluation's metric is not in every result
    )
    os.environ.setdefault(
        "HF_HUB_DISABLE_PROGRESS_BARS", "1"
    )  # read when transformers is imported, which is later
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    logging.getLogger("ray._common.deprecation").setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
