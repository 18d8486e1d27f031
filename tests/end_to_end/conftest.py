"""A small configuration for whole runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_dapo import DAPOConfig


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
