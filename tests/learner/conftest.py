"""Groups of made-up tokens, and a small configuration, for everything that trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup, Response, TrainResponse
from rllib_dapo.envs import TextSpace
from rllib_dapo.learner.module import CausalLMModule

VOCABULARY = 100


@pytest.fixture(autouse=True)
def _tiny_tensors(one_thread: None) -> None:
    """All tests of this room compute with tiny tensors."""


@pytest.fixture(scope="session")
def learner_config(raw_model: Path) -> Callable[..., DAPOConfig]:
    """Makes configurations that train `raw_model` in float32, at temperature 0.7, in this process."""

    def make(name: Path = raw_model) -> DAPOConfig:
        return (
            DAPOConfig()
            .environment("rllib_dapo/Arithmetic-v0")
            .language_model(str(name), dtype="float32", num_threads=1)
            .rollout(engine="transformers", max_prompt_tokens=8, max_response_tokens=8, temperature=0.7)
            .training(lr=1e-2, warmup_steps=0, prompts_per_step=4, group_size=4, minibatch_size=16)
            .overlong(buffer_tokens=2)
            .env_runners(num_env_runners=0)
        )

    return make


@pytest.fixture(scope="session")
def build_module() -> Callable[..., CausalLMModule]:
    """Builds the RLModule of a configuration, as a Learner does (or an EnvRunner, with `inference_only`)."""

    def build(config: DAPOConfig, *, inference_only: bool = False) -> CausalLMModule:
        spaces = {DEFAULT_MODULE_ID: (TextSpace(100), TextSpace(100))}
        spec = config.get_multi_rl_module_spec(spaces=spaces, inference_only=inference_only)
        return spec.build()[DEFAULT_MODULE_ID]

    return build


def _make_groups(count: int = 4, *, seed: int = 0) -> dict[int, PromptGroup]:
    """Groups of four responses of 1 to 8 random tokens; a third of the tokens has no loss."""
    rng = np.random.default_rng(seed)

    def response() -> Response:
        n = int(rng.integers(1, 9))
        mask = rng.random(n) < 2 / 3
        mask[-1] = True
        return Response(
            token_ids=rng.integers(VOCABULARY, size=n, dtype=np.int32),
            loss_mask=mask,
            logprobs=rng.uniform(-6, -3, size=n).astype(np.float32),
            finish_reason="stop",
            reward=0.0,
            is_correct=None,
            text="",
        )

    def group(index: int) -> PromptGroup:
        prompt_ids = rng.integers(VOCABULARY, size=int(rng.integers(2, 9)), dtype=np.int32)
        responses = tuple(response() for _ in range(4))
        return PromptGroup(seed=index, prompt="", prompt_ids=prompt_ids, responses=responses, weights_version=0)

    return {index: group(index) for index in range(count)}


def _train_responses(groups: dict[int, PromptGroup], **fields: Any) -> list[TrainResponse]:
    """Every response, with advantages from -1.5 to 1.5."""
    rows = [(key, group, i) for key, group in groups.items() for i in range(len(group.responses))]
    return [
        TrainResponse(
            **{
                "group": key,
                "index": i,
                "prompt_tokens": len(group.prompt_ids),
                "response_tokens": len(group.responses[i].token_ids),
                "loss_tokens": int(group.responses[i].loss_mask.sum()),
                "advantage": -1.5 + 3.0 * row / max(1, len(rows) - 1),
            }
            | fields
        )
        for row, (key, group, i) in enumerate(rows)
    ]


@pytest.fixture(scope="session")
def make_groups() -> Callable[..., dict[int, PromptGroup]]:
    return _make_groups


@pytest.fixture(scope="session")
def train_responses() -> Callable[..., list[TrainResponse]]:
    return _train_responses
