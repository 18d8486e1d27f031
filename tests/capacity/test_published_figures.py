"""Plans beside published memory figures; docs/scaling.md gives the sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.capacity.engine_memory import kv_bytes
from rllib_dapo.capacity.hardware import GIB
from rllib_dapo.capacity.layout import engine_layout, learner_layout
from rllib_dapo.capacity.learner_memory import learner_memory
from rllib_dapo.capacity.model_shape import ModelShape, model_shape

Make = Callable[..., DAPOConfig]
GB = 1e9


def _device(shape: ModelShape, config: DAPOConfig) -> dict[str, float]:
    return learner_memory(shape, config, learner_layout(config), response_tokens=1000).device


def _zero(stage: int) -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage}}


@pytest.mark.parametrize(("stage", "published_gb"), [(1, 31.4), (2, 16.6), (3, 1.9)])
def test_states_of_seven_and_a_half_billion_on_64_gpus(
    stage: int, published_gb: float, config: Make
) -> None:
    """ZeRO's paper, Figure 1. It keeps gradients in 2 bytes and this project in 4."""
    shape = replace(model_shape("Qwen/Qwen2.5-7B", fetch=False), parameters=7_500_000_000)
    device = _device(shape, config(num_learners=64, deepspeed_config=_zero(stage)))
    states = device["weights"] + device["gradients"] / 2 + device["optimizer"]
    assert states / GB == pytest.approx(published_gb, rel=0.02)


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-32B"])
def test_eighteen_bytes_a_parameter_in_mixed_precision(name: str, config: Make) -> None:
    """LLaMA-Factory's table: 18 GB for each billion of parameters."""
    shape = model_shape(name, fetch=False)
    device = _device(shape, config(deepspeed_config=_zero(1)))
    states = device["weights"] + device["gradients"] + device["optimizer"]
    assert states == pytest.approx(18 * shape.parameters, rel=0.001)


# Parameters, layers, width (every head has keys of its own), and GB measured on A100.
QWEN = {"7B": (7_721_324_544, 32, 4096, 16.99), "72B": (72_287_920_128, 80, 8192, 144.69)}


@pytest.mark.parametrize("size", QWEN)
def test_generation_with_the_first_qwen(size: str, config: Make) -> None:
    """Weights in bfloat16, and keys and values of 2,048 tokens; Qwen's own measurement."""
    parameters, layers, width, published_gb = QWEN[size]
    shape = replace(
        model_shape("Qwen/Qwen2.5-7B", fetch=False),
        parameters=parameters,
        windows=(None,) * layers,
        heads=width // 128,
        kv_heads=width // 128,
        head_size=128,
    )
    taken = 2 * parameters + kv_bytes(shape, engine_layout(config()), 2048)
    assert taken / GB == pytest.approx(published_gb, rel=0.05)


def test_the_peak_of_a_trainer_on_one_gpu(config: Make) -> None:
    """prime-rl: 12.5 GiB for Qwen3-0.6B on rows of 16k tokens, activations recomputed."""
    made = config(
        gradient_checkpointing=True,
        max_prompt_tokens=1024,
        max_response_tokens=15_360,
        max_tokens_per_microbatch=16_384,
    )
    device = _device(model_shape("Qwen/Qwen3-0.6B", fetch=False), made)
    taken = sum(device.values()) - device["CUDA, NCCL"] - device["batch"]
    assert taken / GIB == pytest.approx(12.5, rel=0.1)
