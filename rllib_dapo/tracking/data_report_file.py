"""What a run's environments have read, in the folder of each trial."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from rllib_dapo.envs.row_counts import DATA_FILE, DataReport
from rllib_dapo.ray_internals import trial_storage
from rllib_dapo.tracking.trial_folder import trial_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ray.rllib.algorithms.algorithm import Algorithm


def write_data_report(algorithm: Algorithm) -> None:
    """Writes what the environments of an EnvRunner have read; nothing where they read no files.

    Args:
        algorithm: The algorithm whose trial it belongs to.
    """
    group = algorithm.env_runner_group
    # All EnvRunners read the same.
    first = list(group.healthy_worker_ids())[:1]
    found = group.foreach_env_runner(
        lambda env_runner: env_runner.environments.data_reports(),
        remote_worker_ids=first or None,
        local_env_runner=not first,
    )
    reports: Mapping[str, DataReport] = next(iter(found), {})
    if not reports:
        return

    place = trial_folder(trial_storage(algorithm), algorithm.logdir, DATA_FILE)
    place.filesystem.create_dir(place.path.rpartition("/")[0], recursive=True)
    tree = {name: asdict(report) for name, report in reports.items()}
    with place.filesystem.open_output_stream(place.path) as file:
        file.write(json.dumps(tree, indent=2).encode("utf-8", errors="replace"))
