"""One run of the study after another, in one process and with one engine."""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from study_arms import ARMS
from study_runs import RunKey
from study_tasks import TASKS

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.run.run_settings import read_settings

# What an evaluation records, in the order of the study's columns.
COLUMNS = (
    "updates",
    "responses",
    "tokens",
    "seconds",
    "accuracy",
    "completed_and_correct",
    "response_length",
    "entropy",
    "gradient_norm",
    "gradient_norm_variance",
)


def run_file(key: RunKey, protocol: Mapping[str, Any]) -> dict[str, Any]:
    """The run file of a run, but for the folder of its model: that is the machine's.

    Args:
        key: The run.
        protocol: See `sample_efficiency.PROTOCOL`.
    """
    task, arm = TASKS[key.task], ARMS[key.arm]
    tree: dict[str, Any] = {
        "base": "tiny_arithmetic",
        "preset": arm.preset,
        "environment": {"env": task.env, "env_config": task.env_config("train")},
        "language_model": {"name": task.recipe.folder_name()},
        "rollout": {
            "engine": protocol["engine"],
            "max_prompt_tokens": task.max_prompt_tokens,
            "max_response_tokens": task.max_response_tokens,
            "max_concurrent_responses": 256,
        },
        "env_runners": {"num_env_runners": protocol["env_runners"]},
        "training": {
            "lr": key.lr,
            "prompts_per_step": protocol["prompts_per_step"],
            "group_size": protocol["group_size"],
            "minibatch_size": protocol["minibatch_size"],
        },
        "overlong": {"buffer_tokens": task.buffer_tokens},
        "evaluation": {
            "evaluation_interval": protocol["evaluation_interval"],
            "evaluate_before_training": True,
            "evaluation_num_prompts": protocol["evaluation_problems"],
            "evaluation_samples_per_prompt": protocol["evaluation_samples"],
            "evaluation_config": {"env_config": task.env_config("heldout")},
        },
        "debugging": {"seed": key.seed},
    }
    for name, value in arm.settings.items():
        section, setting = name.split(".", 1)
        tree.setdefault(section, {})[setting] = value
    return tree


def make_config(
    key: RunKey, protocol: Mapping[str, Any], *, model: str | None = None
) -> DAPOConfig:
    """The configuration of a run.

    Args:
        key: The run.
        protocol: See `sample_efficiency.PROTOCOL`.
        model: The start model. None: the task's, which is made where it is not there yet.
    """
    tree = run_file(key, protocol)
    tree["language_model"] = {"name": model or str(TASKS[key.task].model())}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        path.write_text(yaml.safe_dump(tree))
        return read_settings(path).config


class Trainer:
    """Trains run after run; engines are kept as long as the task is the same."""

    def __init__(self, protocol: Mapping[str, Any]) -> None:
        """Makes no engine yet.

        Args:
            protocol: See `sample_efficiency.PROTOCOL`.
        """
        self._protocol = protocol
        self._task: str | None = None
        self._algorithm: DAPO | None = None

    def train(self, key: RunKey, *, say: Callable[[str], None]) -> dict[str, Any]:
        """Trains a run to its end.

        Args:
            key: The run.
            say: Receives a line at each evaluation.

        Returns:
            The columns, by name, each with a value for every evaluation; and the seconds that all
            of it took.
        """
        started = time.monotonic()
        config = make_config(key, self._protocol)
        if self._algorithm is None or self._task != key.task:
            self.close()
            self._algorithm, self._task = config.build_algo(), key.task
        else:
            self._algorithm.reset_config(config)

        points = []
        for point in evaluated(self._algorithm, self._protocol["iterations"]):
            points.append(point)
            seconds = time.monotonic() - started
            say(f"{point['updates']:.0f} updates, {point['accuracy']:.3f}, {seconds:.0f} s")
        columns = {name: [point.get(name) for point in points] for name in COLUMNS}
        return {"columns": columns, "total_seconds": round(time.monotonic() - started, 1)}

    def close(self) -> None:
        """Ends the engines."""
        if self._algorithm is not None:
            self._algorithm.stop()
        self._algorithm = None
        gc.collect()


def evaluated(algorithm: DAPO, iterations: int) -> Iterator[dict[str, float]]:
    """Trains, and gives the figures of each evaluation.

    Costs are sums from the start of training on. Tokens and responses are all that were sampled,
    those of dropped groups too. Seconds are of sampling, updates and the transfer of weights, not
    of evaluations. Entropy and gradient norms are those of the steps since the evaluation before.

    Args:
        algorithm: At the start of its training.
        iterations: Number of training steps.
    """
    total = dict.fromkeys(("updates", "responses", "tokens", "seconds"), 0.0)
    since: dict[str, list[float]] = {"entropy": [], "gradient_norm": []}
    for step in range(iterations):
        result = algorithm.train()
        if step == 0:
            yield total | _accuracy(result["evaluation_at_start"])

        rollout = result["env_runners"]
        learner = result.get("learners", {}).get("default_policy", {})
        total["responses"] += rollout["groups_generated"] * algorithm.config.group_size
        # Both counts are whole, their quotient is not.
        tokens = rollout["tokens_per_accepted_group"] * max(1, rollout["groups_accepted"])
        total["tokens"] += round(float(tokens))
        # A step without an informative group has no update, and its metrics repeat the last one's.
        updates = float(learner.get("num_gradient_updates_lifetime", 0))
        is_updated, total["updates"] = updates > total["updates"], updates
        total["seconds"] += sum(
            float(seconds) for part, seconds in result["seconds"].items() if part != "evaluation"
        )
        for name, values in since.items():
            if is_updated:
                values.append(float(learner[name]))

        if (step + 1) % algorithm.config.evaluation_interval == 0:
            yield _rounded(total | _accuracy(result["evaluation"]) | _means(since))
            since = {name: [] for name in since}


def _accuracy(evaluation: Mapping[str, Any]) -> dict[str, float]:
    figures = evaluation["env_runners"]
    (average,) = (value for name, value in figures.items() if name.startswith("avg@"))
    return {
        "accuracy": float(average),
        "completed_and_correct": float(figures["completed_and_correct"]),
        "response_length": float(figures["response_length_mean"]),
    }


def _means(since: Mapping[str, list[float]]) -> dict[str, float]:
    means = {name: statistics.fmean(values) for name, values in since.items() if values}
    if len(since["gradient_norm"]) > 1:
        means["gradient_norm_variance"] = statistics.variance(since["gradient_norm"])
    return means


def _rounded(point: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.6g}") for name, value in point.items()}
