"""One GPU for both on a real one: memory falls when engines sleep, and rises when they wake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.learner.learner_group import ask_learners

pytestmark = pytest.mark.gpu
GIB = 2**30


@pytest.fixture
def start(cluster: None, raw_model: Path) -> Iterator[Callable[..., DAPO]]:
    started: list[DAPO] = []

    def make() -> DAPO:
        config = (
            DAPOConfig()
            .environment("rllib_dapo/Arithmetic-v0", env_config={"max_operand": 9})
            .language_model(str(raw_model), dtype="bfloat16")
            .rollout(
                max_prompt_tokens=16,
                max_response_tokens=4,
                colocate=True,
                engine_kwargs={"gpu_memory_utilization": 0.5, "enforce_eager": True},
            )
            .env_runners(num_env_runners=1, num_gpus_per_env_runner=0.6)
            .learners(num_learners=1, num_gpus_per_learner=0.4)
            .training(lr=1e-3, prompts_per_step=4, group_size=4, minibatch_size=16)
            .kl(coefficient=0.01)
            .dynamic_sampling(enabled=False)
            .overlong(buffer_tokens=1)
            .debugging(seed=3)
        )
        started.append(config.build_algo())
        return started[-1]

    yield make
    for algo in started:
        algo.stop()


def used(algo: DAPO) -> float:
    """Bytes of the GPU that all processes use together."""

    def ask(learner: Any) -> int:
        free, total = torch.cuda.mem_get_info()
        return int(total - free)

    return ask_learners(algo.learner_group, ask)[0]


def places(algo: DAPO) -> set[str]:
    """Kinds of devices on which the optimizer's state lies."""

    def ask(learner: Any) -> set[str]:
        state = learner.get_optimizer(DEFAULT_MODULE_ID).state
        return {
            value.device.type
            for of_one in state.values()
            for value in of_one.values()
            if isinstance(value, torch.Tensor) and value.dim() > 0
        }

    return ask_learners(algo.learner_group, ask)[0]


def test_memory_falls_and_rises_with_the_turns(start: Callable[..., DAPO], tmp_path: Path) -> None:
    algo = start()
    assert type(algo._weight_transfer).__name__ == "SharedMemoryWay"
    algo.train()
    awake = used(algo)
    assert places(algo) == {"cpu"}

    algo._turns.to_learners()
    asleep = used(algo)
    _, total = torch.cuda.mem_get_info()
    assert asleep < awake - 0.4 * total, "half of the GPU was the engine's"
    assert places(algo) == {"cuda"}

    algo._sync_weights()
    assert used(algo) == pytest.approx(awake, abs=0.5 * GIB)
    assert places(algo) == {"cpu"}

    # Saved and restored while it rests.
    algo.save_to_path(tmp_path)
    algo.restore_from_path(tmp_path)
    assert places(algo) == {"cpu"}
    assert used(algo) == pytest.approx(awake, abs=0.5 * GIB)
    algo.train()


def test_both_sides_agree_in_every_turn(start: Callable[..., DAPO]) -> None:
    algo = start()
    for _ in range(4):  # the arrival of each version is proven bit for bit on the way
        figures = algo.train()["learners"]["default_policy"]
        assert figures["sampler_logprob_gap_mean"] < 0.05
