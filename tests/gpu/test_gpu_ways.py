"""NCCL and CUDA IPC on real GPUs: the same weights arrive as through the object store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPOConfig
from rllib_dapo.rollout.engine import Sampling

pytestmark = pytest.mark.gpu


@pytest.fixture
def start(cluster: None, raw_model: Path) -> Iterator[Callable[..., Any]]:
    started: list[Any] = []

    def make(way: str, *, gpus: float) -> Any:
        config = (
            DAPOConfig()
            .environment("rllib_dapo/Arithmetic-v0", env_config={"max_operand": 9})
            .language_model(str(raw_model), dtype="bfloat16")
            .rollout(
                max_prompt_tokens=16,
                max_response_tokens=4,
                engine_kwargs={"gpu_memory_utilization": 0.3, "enforce_eager": True},
            )
            .weights(transfer=way, bucket_mib=0.05)
            .env_runners(num_env_runners=1, num_gpus_per_env_runner=gpus)
            .learners(num_learners=1, num_gpus_per_learner=gpus)
            .training(lr=1e-3, prompts_per_step=4, group_size=4, minibatch_size=16)
            .dynamic_sampling(enabled=False)
            .overlong(buffer_tokens=1)
            .debugging(seed=3)
        )
        started.append(config.build_algo())
        return started[-1]

    yield make
    for algo in started:
        algo.stop()


def sampled_after_an_update(algo: Any) -> Any:
    """What the engine samples with weights that an update has changed."""
    algo.train()

    def sample(runner: Any) -> Any:
        (group,) = runner.module[DEFAULT_MODULE_ID].engine.generate(
            [[1, 22, 16, 23, 34]], sampling=Sampling(num_responses=4, max_tokens=4), seeds=[1]
        )
        return [(c.token_ids.tolist(), c.logprobs.tolist()) for c in group]

    return algo.env_runner_group.foreach_env_runner(sample, local_env_runner=False)[0]


def test_nccl_brings_what_the_object_store_brings(start: Callable[..., Any]) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("Learner and engine need a GPU each")
    by_nccl = start("nccl", gpus=1)
    sampled = sampled_after_an_update(by_nccl)
    by_nccl.stop()
    assert sampled_after_an_update(start("object_store", gpus=1)) == sampled


def test_ipc_brings_what_the_object_store_brings(start: Callable[..., Any]) -> None:
    by_ipc = start("ipc", gpus=0.5)
    sampled = sampled_after_an_update(by_ipc)
    by_ipc.stop()
    assert sampled_after_an_update(start("object_store", gpus=0.5)) == sampled


def test_auto_takes_ipc_on_one_gpu(start: Callable[..., Any]) -> None:
    assert type(start("auto", gpus=0.5)._weight_transfer).__name__ == "SharedMemoryWay"
