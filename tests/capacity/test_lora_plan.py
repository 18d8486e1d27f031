"""What an adapter does to a plan: memory, bytes that travel, and arithmetic, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.capacity.asked_hardware import chosen_hardware
from rllib_dapo.capacity.layout import engine_layout, learner_layout
from rllib_dapo.capacity.learner_memory import learner_memory
from rllib_dapo.capacity.model_shape import ModelShape
from rllib_dapo.capacity.run_plan import make_plan
from rllib_dapo.capacity.shared_gpu import sleeping_base
from rllib_dapo.capacity.step_seconds import transferred_bytes
from rllib_dapo.models.lora_settings import LoraSettings

Make = Callable[..., DAPOConfig]
LORA = {"lora": {"rank": 8}}


def states(shape: ModelShape, config: DAPOConfig) -> dict[str, float]:
    memory = learner_memory(shape, config, learner_layout(config), response_tokens=1000)
    names = ("weights", "gradients", "optimizer", "reference", "bfloat16 copies")
    return {name: memory.device[name] for name in names if name in memory.device}


def test_numbers_of_an_adapter_by_hand(small: ModelShape) -> None:
    """Qwen2.5-0.5B: 24 layers of width 896, 128 for keys and for values, 4864 inside."""
    attention = (896 + 896) + 2 * (896 + 128) + (896 + 896)
    inner = 3 * (896 + 4864)
    assert small.adapter_parameters(LoraSettings(rank=8)) == 24 * 8 * (attention + inner)
    queries = LoraSettings(rank=2, target_modules=("self_attn.q_proj",))
    assert small.adapter_parameters(queries) == 24 * 2 * (896 + 896)


def test_two_bytes_a_parameter_and_sixteen_of_the_adapter(small: ModelShape, config: Make) -> None:
    """A bfloat16 base; of the adapter float32 weights and gradients, and two moments."""
    n, t = small.parameters, small.adapter_parameters(LoraSettings(rank=8))
    expected = {"weights": 2 * n + 4 * t, "gradients": 4 * t, "optimizer": 8 * t}
    assert states(small, config(**LORA)) == expected
    # The base with the adapter off is the reference.
    assert states(small, config(**LORA, kl_coefficient=0.1)) == expected


@pytest.mark.parametrize(("stage", "cut"), [(1, 1), (2, 1), (3, 4)])
def test_under_zero_base_and_adapter_are_cut_alike(
    stage: int, cut: int, small: ModelShape, config: Make
) -> None:
    zero = {"zero_optimization": {"stage": stage}}
    found = states(small, config(**LORA, num_learners=4, deepspeed_config=zero))
    n, t = small.parameters, small.adapter_parameters(LoraSettings(rank=8))
    assert found["weights"] == pytest.approx(2 * (n + t) / cut)
    assert found["optimizer"] == pytest.approx(12 * t / 4)


def test_the_adapter_alone_travels_unless_engines_take_none(
    small: ModelShape, config: Make
) -> None:
    def travels(**attributes: Any) -> float:
        asked = config(**attributes)
        return transferred_bytes(small, asked, engine_layout(asked))

    t = small.adapter_parameters(LoraSettings(rank=8))
    assert travels(**LORA) == 2 * t
    assert travels(**LORA, engine="transformers") == travels() == 2 * small.parameters
    assert 2 * t < 0.05 * travels()


def test_a_base_that_sleeps_waits_in_main_memory(small: ModelShape, config: Make) -> None:
    with_adapter = config(**LORA)
    layout = engine_layout(with_adapter)
    assert sum(sleeping_base(small, with_adapter, layout).values()) == 2 * small.parameters
    assert sleeping_base(small, config(), layout) == {}


def test_a_backward_pass_through_a_frozen_base_is_one_forward_pass(
    small: ModelShape, config: Make
) -> None:
    hardware = chosen_hardware(2, "h100-80gb")
    whole, adapter = (
        make_plan(config(**lora, old_logprobs="sampler"), small, hardware) for lora in ({}, LORA)
    )
    assert whole.seconds is not None
    assert adapter.seconds is not None
    passes = [plan.seconds.training for plan in (whole, adapter)]
    checkpointing = config().gradient_checkpointing
    assert passes[1] / passes[0] == pytest.approx((2 + checkpointing) / (3 + checkpointing))
