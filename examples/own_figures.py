"""Figures of one's own, by RLlib's callbacks: in results, in TensorBoard and in Prometheus.

    python examples/own_figures.py [training.epsilon_high=0.3 ...]

`docs/callbacks.md` says which events there are and what they get.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ray import tune
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.util.metrics import Gauge

from rllib_dapo.run.preset_files import find_run_file
from rllib_dapo.run.run_settings import read_settings

FOLDER = Path("outputs/own_figures").absolute()


class OwnFigures(RLlibCallback):
    """How many responses begin with a minus, and what a right answer costs in time."""

    def on_algorithm_init(self, *, algorithm: Any, **kwargs: Any) -> None:
        """When all is set up: makes the gauge that Prometheus reads."""
        self.cost = Gauge("seconds_per_right_answer", "Time over right answers.")

    def on_episode_end(self, *, episode: Any, metrics_logger: Any, **kwargs: Any) -> None:
        """On each EnvRunner, for every response."""
        said = episode.get_actions()[-1]
        metrics_logger.log_value("begins_with_minus", float(said.startswith("-")), reduce="mean")

    def on_train_result(self, *, algorithm: Any, result: dict[str, Any], **kwargs: Any) -> None:
        """After each iteration: what it writes into the result is a metric like any other."""
        config, found = algorithm.config, result["env_runners"]
        right = found["accuracy"] * found["groups_generated"] * config.group_size
        result["seconds_per_right_answer"] = result["time_this_iter_s"] / max(right, 1)
        self.cost.set(result["seconds_per_right_answer"])

    def on_evaluate_end(self, *, evaluation_metrics: dict[str, Any], **kwargs: Any) -> None:
        """After each evaluation."""
        print("evaluation:", evaluation_metrics["env_runners"]["accuracy"])

    def on_checkpoint_loaded(self, *, algorithm: Any, **kwargs: Any) -> None:
        """When Tune has restored the trial."""
        print("goes on after iteration", algorithm.iteration)


def main(overrides: list[str]) -> None:
    settings = read_settings(find_run_file("tiny_arithmetic"), overrides)
    tuner = tune.Tuner(
        "DAPO",
        param_space=settings.config.callbacks(OwnFigures),
        run_config=tune.RunConfig(
            name="own_figures", storage_path=str(FOLDER), stop=dict(settings.stop)
        ),
    )

    metrics = tuner.fit()[0].metrics
    cost, minus = metrics["seconds_per_right_answer"], metrics["env_runners"]["begins_with_minus"]
    print(f"a right answer takes {cost:.4f} s; {minus:.3f} of the responses begin with a minus")


if __name__ == "__main__":
    main(sys.argv[1:])
