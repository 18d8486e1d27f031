"""A small configuration for everything that samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.rollout.env_runner import TextEnvRunner
from tests.rollout.dispatch import Samples, samples_of


@pytest.fixture(autouse=True)
def _tiny_tensors(one_thread: None) -> None:
    """All tests of this folder compute with tiny tensors."""


@pytest.fixture(scope="session")
def rollout_config(raw_model: Path) -> Callable[..., DAPOConfig]:
    """Makes configurations of an EnvRunner that samples groups of 4 in this process, in float32."""

    def make(env: Any = "rllib_dapo/Arithmetic-v0", **env_config: Any) -> DAPOConfig:
        return (
            DAPOConfig()
            .environment(
                env, env_config={"max_operand": 9} if env == "rllib_dapo/Arithmetic-v0" else {}
            )
            .environment(env_config=env_config)
            .language_model(str(raw_model), dtype="float32", num_threads=1)
            .rollout(engine="transformers", max_prompt_tokens=8, max_response_tokens=2)
            .training(prompts_per_step=2, group_size=4, minibatch_size=8)
            .overlong(buffer_tokens=1)
            .env_runners(num_env_runners=0)
        )

    return make


@pytest.fixture(scope="session")
def expected(rollout_config: Callable[..., DAPOConfig]) -> Samples:
    """What an EnvRunner that nobody kills samples for the first eight seeds."""
    return samples_of([TextEnvRunner(config=rollout_config()).sample_groups(range(8))])
