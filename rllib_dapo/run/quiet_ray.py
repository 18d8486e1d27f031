"""Ray for one run, quiet except for this package's own lines."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.job_config import JobConfig

from rllib_dapo.algorithm import DAPO
from rllib_dapo.findings import SettingsError
from rllib_dapo.models import resolve_model
from rllib_dapo.ray_internals import start_ray
from rllib_dapo.run.error_cause import cause_line
from rllib_dapo.run.preflight import uses_cluster
from rllib_dapo.run.ray_address import check_ray_address
from rllib_dapo.run.run_folder import worker_log_path
from rllib_dapo.run.run_settings import RunSettings
from rllib_dapo.run.worker_log import WorkerLog, worker_log

# Environment variables: a value, and whether it wins over one that is there.
VARIABLES = {
    "RAY_AIR_NEW_OUTPUT": ("0", True),
    # Seconds between the snapshots that an interrupted run is resumed from. Tune's own 10 are long
    # enough for a small trial to end in between.
    "TUNE_GLOBAL_CHECKPOINT_S": ("1", False),
    # The metric of an evaluation is not in every result.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": ("1", True),
    # Transformers reads this when it is imported, which is later.
    "HF_HUB_DISABLE_PROGRESS_BARS": ("1", False),
}
# `0` starts Ray without its dashboard, whose processes take some seconds of a small machine.
DASHBOARD_VARIABLE = "RLLIB_DAPO_DASHBOARD"
LOGGERS = {
    "ray.tune": logging.CRITICAL,
    "ray.rllib": logging.ERROR,
    "ray._common.deprecation": logging.ERROR,
}


@contextmanager
def quiet_ray(settings: RunSettings, folder: str) -> Iterator[WorkerLog]:
    """Ray, with its workers' output kept in a file; shut down at the end if it was started here.

    Args:
        settings: The run, checked by `preflight.check_run`.
        folder: The run's folder.
    """
    silence()
    if not uses_cluster():
        # A built-in model is made once, in this process, where its progress can be seen.
        for name in {str(config.model_name) for config in settings.checked}:
            resolve_model(name)

    is_ours = not ray.is_initialized()
    if is_ours:
        _start_ray(settings, folder)
    try:
        with worker_log(worker_log_path(folder)) as log:
            yield log
    finally:
        if is_ours:
            ray.shutdown()


def silence() -> None:
    """Turns off what Ray and its libraries say to their own developers."""
    for name, (value, is_forced) in VARIABLES.items():
        if is_forced or name not in os.environ:
            os.environ[name] = value
    for name, level in LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def join_ray(**options: Any) -> str:
    """Joins the Ray that runs here or that `RAY_ADDRESS` names, else starts one.

    Args:
        **options: Arguments of `ray.init`.

    Returns:
        Where its dashboard is; empty if it has none.

    Raises:
        SettingsError: If there is none to join and none can be started.
    """
    check_ray_address()
    options = {"logging_level": logging.ERROR, "include_dashboard": _wants_dashboard()} | options
    try:
        url = start_ray(**options).dashboard_url
    # Ray's own errors, and those of its processes, are of many kinds.
    except Exception as error:
        ray.shutdown()
        raise SettingsError(f"Ray does not start: {cause_line(error)}") from error

    # A name that was registered before was registered with the Ray that was running then.
    tune.register_trainable("DAPO", DAPO, warn=False)
    return str(url or "")


def _wants_dashboard() -> bool | None:
    """What `ray.init` is told of it; None leaves it to Ray, which has one where it can."""
    value = os.environ.get(DASHBOARD_VARIABLE, "1")
    if value not in ("0", "1"):
        raise SettingsError(
            f"{DASHBOARD_VARIABLE}={value!r}: must be 0 (Ray starts without its dashboard) or 1"
        )
    return None if value == "1" else False


def _start_ray(settings: RunSettings, folder: str) -> None:
    job = JobConfig(metadata={"job_name": folder.rpartition("/")[2], "run_file": settings.source})
    url = join_ray(job_config=job)
    if url:
        sys.stdout.write(f"dashboard: http://{url} (its token: ray get-auth-token)\n")
        sys.stdout.flush()
