"""Configurations and shapes to plan for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.capacity.model_shape import ModelShape, model_shape


@pytest.fixture(scope="session")
def small() -> ModelShape:
    """Qwen2.5-0.5B."""
    return model_shape("Qwen/Qwen2.5-0.5B", fetch=False)


@pytest.fixture(scope="session")
def large() -> ModelShape:
    """Qwen2.5-32B."""
    return model_shape("Qwen/Qwen2.5-32B", fetch=False)


@pytest.fixture
def config() -> Callable[..., DAPOConfig]:
    """Makes configurations on GPUs, with attributes set by name."""

    def make(**attributes: Any) -> DAPOConfig:
        made = (
            DAPOConfig()
            .language_model("Qwen/Qwen2.5-0.5B")
            .rollout(max_prompt_tokens=1024, max_response_tokens=3072)
            .training(max_tokens_per_microbatch=4096)
            .env_runners(num_env_runners=1, num_gpus_per_env_runner=1)
            .learners(num_learners=1, num_gpus_per_learner=1)
        )
        for name, value in attributes.items():
            assert hasattr(made, name), name
            setattr(made, name, value)
        return made

    return make
