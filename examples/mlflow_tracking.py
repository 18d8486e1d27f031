"""A run in MLflow, by Ray's own callback.

Needs `pip install mlflow` (or mlflow-skinny). `mlflow ui --backend-store-uri outputs/mlflow/store` shows it; a server
is named in MLFLOW_TRACKING_URI.

    python examples/mlflow_tracking.py [training.epsilon_high=0.3 ...]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback

from rllib_dapo.cli import find_run_file
from rllib_dapo.run.settings import read_settings

FOLDER = Path("outputs/mlflow").absolute()
STORE = os.environ.get("MLFLOW_TRACKING_URI", (FOLDER / "store").as_uri())


def main(overrides: list[str]) -> None:
    settings = read_settings(find_run_file("tiny_arithmetic"), overrides)
    tuner = tune.Tuner(
        "DAPO",
        param_space=settings.config,
        run_config=tune.RunConfig(
            name="tracked",
            storage_path=str(FOLDER),
            stop=dict(settings.stop),
            callbacks=[MLflowLoggerCallback(tracking_uri=STORE, experiment_name=settings.name)],
        ),
    )
    result = tuner.fit()[0]
    print(f"accuracy {result.metrics['env_runners']['accuracy']:.3f}; the store is {STORE}")


if __name__ == "__main__":
    main(sys.argv[1:])
