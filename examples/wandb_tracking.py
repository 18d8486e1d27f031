"""Track a run with Weights & Biases, by Ray's own callback.

Needs `pip install wandb`. Without an account the run stays on this machine, in wandb's offline
mode, and `wandb sync outputs/wandb/wandb/offline-run-*` uploads it later. With WANDB_API_KEY set
and WANDB_MODE=online it is uploaded while it trains.

    python examples/wandb_tracking.py [training.epsilon_high=0.3 ...]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ray import tune
from ray.air.integrations.wandb import WandbLoggerCallback

from rllib_dapo.run.preset_files import find_run_file
from rllib_dapo.run.run_settings import read_settings

FOLDER = Path("outputs/wandb").absolute()


def main(overrides: list[str]) -> None:
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_DIR", str(FOLDER))
    FOLDER.mkdir(parents=True, exist_ok=True)

    settings = read_settings(find_run_file("tiny_arithmetic"), overrides)
    tuner = tune.Tuner(
        "DAPO",
        param_space=settings.config,
        run_config=tune.RunConfig(
            name="tracked",
            storage_path=str(FOLDER),
            stop=dict(settings.stop),
            callbacks=[WandbLoggerCallback(project="rllib-dapo", group=settings.name)],
        ),
    )

    result = tuner.fit()[0]
    print(f"accuracy {result.metrics['env_runners']['accuracy']:.3f}; the run is in {FOLDER}")


if __name__ == "__main__":
    main(sys.argv[1:])
