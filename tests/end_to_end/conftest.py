"""A small configuration for whole runs, and one run from the command line that is at its end."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3MoeConfig

from rllib_dapo import DAPOConfig
from rllib_dapo.models.tiny import make_tokenizer


@pytest.fixture(scope="session")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose experts are fused while they are read."""
    folder = tmp_path_factory.mktemp("mixture")
    config = Qwen3MoeConfig(
        vocab_size=128,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_config(raw_model: Path) -> Callable[..., DAPOConfig]:
    """Makes a configuration that trains a barely warmed-up model in seconds per iteration.

    Every group trains: dynamic sampling would wait long for a correct answer from such a model.
    """

    def make(
        *, engine: str, num_env_runners: int = 0, num_learners: int = 0, dtype: str = "float32"
    ) -> DAPOConfig:
        return (
            DAPOConfig()
            .environment("rllib_dapo/Arithmetic-v0", env_config={"max_operand": 9})
            .language_model(str(raw_model), dtype=dtype, num_threads=1)
            .rollout(
                engine=engine, max_prompt_tokens=16, max_response_tokens=6, cpu_kv_cache_gib=0.25
            )
            .env_runners(num_env_runners=num_env_runners)
            .learners(num_learners=num_learners)
            .training(
                lr=1e-3,
                warmup_steps=2,
                prompts_per_step=4,
                group_size=8,
                minibatch_size=16,
                max_shared_row_tokens=64,
            )
            .overlong(buffer_tokens=2)
            .fault_tolerance(restart_failed_env_runners=False)
            .debugging(seed=3)
        )

    return make


@dataclass(frozen=True, kw_only=True, slots=True)
class WholeRun:
    """A run from the command line that is at its end.

    Attributes:
        done: What the command said.
        mark: A variable, and its value, in the environment of all processes of the run.
        trial: Folder of its one trial.
        checkpoint: The checkpoint that it named in the end.
        results: What its iterations reported.
    """

    done: subprocess.CompletedProcess[str]
    mark: tuple[str, str]
    trial: Path
    checkpoint: Path
    results: tuple[Mapping[str, Any], ...]


@pytest.fixture(scope="session")
def recorded_run(
    run_command: Callable[..., subprocess.CompletedProcess[str]],
    quick_settings: Mapping[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> WholeRun:
    """One run for all tests that need one: three iterations, recorded, evaluated, checkpointed."""
    folder = tmp_path_factory.mktemp("run")
    mark = ("RLLIB_DAPO_TEST_RUN", str(folder))
    settings = {
        **quick_settings,
        "rollout.record_groups": "true",
        "training.group_size": 8,
        "training.minibatch_size": 16,
        "kl.coefficient": 0.01,
        # Bounds so narrow, and steps so large, that tokens are clipped.
        "training.epsilon_low": "1e-4",
        "training.epsilon_high": "2e-4",
        "training.lr": "3e-3",
        "stop.training_iteration": 3,
    }
    done = run_command(
        *("train", "tiny_arithmetic", "--storage", "runs"),
        folder=folder,
        settings=settings,
        environment=dict([mark]) | {"RLLIB_DAPO_DASHBOARD": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr

    (line,) = [line for line in done.stdout.splitlines() if line.lstrip().startswith("checkpoint ")]
    (trial,) = folder.glob("runs/tiny_arithmetic_*/trial_00000")
    results = (trial / "result.json").read_text().splitlines()
    return WholeRun(
        done=done,
        mark=mark,
        trial=trial,
        checkpoint=Path(line.split()[-1]),
        results=tuple(map(json.loads, results)),
    )
