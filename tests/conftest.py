"""What holds for every test: no model hub, no telemetry. Set here, before anything reads it at import."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rllib_dapo.core import GroupSummary

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


def _make_raw_model(folder: Path, *, seed: int) -> Path:
    from rllib_dapo.models.tiny import TinyRecipe, tiny_model

    recipe = TinyRecipe(
        seed=seed,
        hidden_size=128,
        intermediate_size=256,
        num_layers=2,
        max_operand=9,
        steps=40,
        batch_size=16,
    )
    return tiny_model(recipe, cache_dir=folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A local Ray that ends with the module; four logical CPUs, so that every layout of actors finds a place."""
    import ray

    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def raw_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that writes numbers after sums, mostly wrong ones; made in a second or two."""
    return _make_raw_model(tmp_path_factory.mktemp("raw_model"), seed=0)


@pytest.fixture(scope="session")
def other_raw_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shape as `raw_model`, other weights."""
    return _make_raw_model(tmp_path_factory.mktemp("other_raw_model"), seed=1)


@pytest.fixture(scope="session")
def sweep_folder(raw_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep over both clip bounds: four trials, four iterations each, with evaluations and samples."""
    folder = tmp_path_factory.mktemp("sweep")
    settings = {
        "language_model.name": raw_model,
        "language_model.num_threads": 1,
        "rollout.engine": "transformers",
        "training.lr": "1e-3",
        "training.prompts_per_step": 4,
        "training.group_size": 4,
        "training.minibatch_size": 8,
        "dynamic_sampling.enabled": "false",
        "environment.env_config.max_operand": 9,
        "evaluation.evaluation_interval": 2,
        "evaluation.evaluation_num_prompts": 4,
        "evaluation.evaluation_samples_per_prompt": 2,
        "reporting.sample_table_interval": 2,
        "env_runners.num_env_runners": 0,
        "search.training.epsilon_low": "{grid: [0.1, 0.2]}",
        "search.training.epsilon_high": "{grid: [0.2, 0.3]}",
        "tune.checkpoint_frequency": 2,
        "tune.max_concurrent_trials": 1,
        "stop.training_iteration": 4,
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = [
        sys.executable,
        "-m",
        "rllib_dapo",
        "train",
        "tiny_arithmetic",
        "--storage",
        str(folder),
        *words,
    ]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = folder.glob("tiny_arithmetic_*")
    return run


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tiny tensors: on a busy machine threads that wait for each other take most of the time."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _make_summary(
    seed: int = 0,
    *,
    rewards: Sequence[float] = (),
    is_correct: Sequence[bool | None] | None = None,
    response_tokens: Sequence[int] | None = None,
    is_truncated: Sequence[bool] | None = None,
    reasons: Sequence[str] | None = None,
    predictions: Sequence[str] | None = None,
    components: Sequence[Mapping[str, float]] | None = None,
    num_turns: Sequence[int] | None = None,
) -> GroupSummary:
    """A group's summary; by default nothing is known of correctness, and each response is one turn of 3 tokens."""
    from rllib_dapo.core import GroupSummary

    tokens = tuple(response_tokens or (3 for _ in rewards))
    return GroupSummary(
        seed=seed,
        weights_version=0,
        prompt_tokens=4,
        response_tokens=tokens,
        loss_tokens=tokens,
        rewards=tuple(rewards),
        is_correct=tuple(is_correct or (None for _ in rewards)),
        is_truncated=tuple(is_truncated or (False for _ in rewards)),
        reasons=tuple(reasons or ("" for _ in rewards)),
        predictions=tuple(predictions or ("" for _ in rewards)),
        components=tuple(components or ({} for _ in rewards)),
        num_turns=tuple(num_turns or (1 for _ in rewards)),
    )


@pytest.fixture(scope="session")
def make_summary() -> Callable[..., GroupSummary]:
    return _make_summary
