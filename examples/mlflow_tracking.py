"""Track a run with MLflow, by Ray's own callback.

Needs `pip install -e '.[trackers]'`. The run is kept in a database on this machine; with
the package `mlflow` installed, this shows it:

    mlflow ui --backend-store-uri sqlite:///outputs/mlflow/mlflow.db

Set MLFLOW_TRACKING_URI to track the run on a server.

    python examples/mlflow_tracking.py [training.epsilon_high=0.3 ...]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.experiment import Trial
from ray.tune.utils import flatten_dict

from rllib_dapo.run.preset_files import find_run_file
from rllib_dapo.run.run_settings import read_settings

FOLDER = Path("outputs/mlflow").absolute()
STORE = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{FOLDER}/mlflow.db")


class MLflowLogger(MLflowLoggerCallback):
    """Ray's callback with names that MLflow accepts: without @."""

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Tune calls this with each result."""
        figures = {name: value for name, value in result.items() if name != "config"}
        flat = flatten_dict(figures)
        renamed = {name.replace("@", "_at_"): value for name, value in flat.items()}
        super().log_trial_result(iteration, trial, renamed)


def main(overrides: list[str]) -> None:
    settings = read_settings(find_run_file("tiny_arithmetic"), overrides)
    tuner = tune.Tuner(
        "DAPO",
        param_space=settings.config,
        run_config=tune.RunConfig(
            name="tracked",
            storage_path=str(FOLDER),
            stop=dict(settings.stop),
            callbacks=[MLflowLogger(tracking_uri=STORE, experiment_name=settings.name)],
        ),
    )

    result = tuner.fit()[0]
    print(f"accuracy {result.metrics['env_runners']['accuracy']:.3f}; the run is in {STORE}")


if __name__ == "__main__":
    main(sys.argv[1:])
