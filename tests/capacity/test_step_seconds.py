"""Times of a step: the roofline by hand, and what must make it longer or shorter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.capacity.asked_hardware import chosen_hardware
from rllib_dapo.capacity.hardware import GPUS, Hardware
from rllib_dapo.capacity.layout import engine_layout, learner_layout
from rllib_dapo.capacity.model_shape import ModelShape
from rllib_dapo.capacity.run_plan import make_plan
from rllib_dapo.capacity.step_seconds import StepSeconds, forward_flops, transfer_seconds

Make = Callable[..., DAPOConfig]
TWO_CORES = Hardware(name="two cores", cpus_per_node=2)


def _seconds(shape: ModelShape, config: DAPOConfig, kind: str, **more: Any) -> StepSeconds:
    seconds = make_plan(config, shape, chosen_hardware(16, kind), **more).seconds
    assert seconds is not None
    return seconds


def test_a_forward_pass_by_hand(small: ModelShape) -> None:
    """`2 N` a token, and `4 layers heads head_size` for each token that it looks back on."""
    assert forward_flops(small, tokens=1, context=0) == 2 * 494_032_768
    with_context = forward_flops(small, tokens=10, context=100)
    assert with_context == 10 * (2 * 494_032_768 + 4 * 24 * 14 * 64 * 100)


@pytest.mark.parametrize(
    ("attribute", "value", "part", "sign"),
    [
        ("max_response_tokens", 6144, "sampling", 1),
        ("prompts_per_step", 1024, "training", 1),
        ("gradient_checkpointing", True, "training", 1),
        ("kl_coefficient", 0.1, "training", 1),
        ("old_logprobs", "sampler", "training", -1),
        ("dynamic_sampling_enabled", False, "sampling", -1),
        ("num_env_runners", 4, "sampling", -1),
        ("num_learners", 4, "training", -1),
    ],
)
def test_what_makes_a_part_longer_or_shorter(
    attribute: str, value: Any, part: str, sign: int, small: ModelShape, config: Make
) -> None:
    before = _seconds(small, config(), "h100-80gb")
    after = _seconds(small, config(**{attribute: value}), "h100-80gb")
    assert sign * (getattr(after, part) - getattr(before, part)) > 0


def test_a_faster_gpu_is_faster(small: ModelShape, config: Make) -> None:
    slow, fast = (_seconds(small, config(), kind) for kind in ("l4-24gb", "h100-80gb"))
    assert fast.sampling < slow.sampling
    assert fast.training < slow.training


def test_longer_answers_than_half_take_longer(small: ModelShape, config: Make) -> None:
    short, long = (
        _seconds(small, config(), "h100-80gb", response_tokens=n) for n in (500.0, 3000.0)
    )
    assert long.sampling > short.sampling
    assert long.training > short.training


def test_weights_travel_once_in_the_type_of_the_engine(small: ModelShape, config: Make) -> None:
    assert _seconds(small, config(), "h100-80gb").transfer_bytes == 2 * 494_032_768
    both = _seconds(small, config(model_dtype="float32"), "h100-80gb")
    assert both.transfer_bytes == 4 * 494_032_768


def test_ways_of_the_weights_depend_on_where_both_sides_are(
    small: ModelShape, config: Make
) -> None:
    def ways(hardware: Hardware, made: DAPOConfig) -> list[str]:
        return list(
            transfer_seconds(
                small,
                made,
                hardware,
                learners=learner_layout(made),
                engines=engine_layout(made),
            )
        )

    gpus = Hardware(name="gpus", gpus_per_node=2, gpu=GPUS["h100-80gb"])
    assert ways(gpus, config()) == ["nccl", "object store"]
    shared = config(num_gpus_per_env_runner=0.5, num_gpus_per_learner=0.5)
    assert ways(gpus, shared) == ["ipc", "object store"]
    assert ways(TWO_CORES, config(num_gpus_per_env_runner=0, num_gpus_per_learner=0)) == [
        "object store"
    ]


def test_a_mixture_reads_and_computes_less_than_its_size(config: Make) -> None:
    from rllib_dapo.capacity.model_shape import model_shape

    mixture = model_shape("Qwen/Qwen3-30B-A3B", fetch=False)
    dense = replace(mixture, active_parameters=mixture.projection_parameters)
    made = config(engine_kwargs={"tensor_parallel_size": 4}, num_gpus_per_env_runner=4)
    assert (
        _seconds(mixture, made, "h100-80gb").training
        < _seconds(dense, made, "h100-80gb").training / 5
    )


def test_parts_add_up(small: ModelShape, config: Make) -> None:
    seconds = _seconds(small, config(), "h100-80gb")
    assert seconds.total == pytest.approx(seconds.sampling + seconds.training + seconds.transfer)
