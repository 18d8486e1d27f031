"""The report on a run's model, in the folder of each trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rllib_dapo.model_check.model_report import FILE_NAME, ModelReport
from rllib_dapo.ray_internals import trial_storage
from rllib_dapo.tracking.trial_folder import trial_folder

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm


def write_model_report(report: ModelReport, algorithm: Algorithm) -> None:
    """Writes what was found about the model.

    Args:
        report: What was found.
        algorithm: The algorithm whose trial it belongs to.
    """
    place = trial_folder(trial_storage(algorithm), algorithm.logdir, FILE_NAME)
    place.filesystem.create_dir(place.path.rpartition("/")[0], recursive=True)
    with place.filesystem.open_output_stream(place.path) as file:
        file.write(report.to_json().encode("utf-8", errors="replace"))
