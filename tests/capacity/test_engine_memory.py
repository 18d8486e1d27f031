"""An engine's memory: weights, cache, and how many responses fit at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.capacity.engine_memory import EngineMemory, engine_memory, kv_bytes
from rllib_dapo.capacity.hardware import GIB, GPUS
from rllib_dapo.capacity.layout import engine_layout
from rllib_dapo.capacity.model_shape import ModelShape, model_shape

Make = Callable[..., DAPOConfig]
H100 = GPUS["h100-80gb"]


def _memory(shape: ModelShape, config: DAPOConfig, kind: str = "h100-80gb") -> EngineMemory:
    layout = engine_layout(config)
    gpu = GPUS[kind] if layout.gpus else None
    return engine_memory(shape, config, layout, gpu=gpu, response_tokens=1000)


def test_the_cache_is_what_weights_and_work_leave(small: ModelShape, config: Make) -> None:
    memory = _memory(small, config(engine_kwargs={"gpu_memory_utilization": 0.5}))
    assert memory.parts["weights"] == 2 * small.parameters
    assert memory.total == pytest.approx(0.5 * H100.memory)
    assert memory.at_once == pytest.approx(memory.cache / (4096 * 2 * 6_144))


def test_a_cache_on_cpus_has_the_size_of_its_setting(small: ModelShape, config: Make) -> None:
    made = config(num_gpus_per_env_runner=0, cpu_kv_cache_gib=3.0, model_dtype="float32")
    memory = _memory(small, made)
    assert memory.cache == 3 * GIB
    assert memory.cached_tokens == pytest.approx(3 * GIB / (4 * 6_144))


def test_heads_are_shared_out_until_each_gpu_has_one(small: ModelShape, config: Make) -> None:
    """Two heads of keys and values: four GPUs hold each head twice."""
    of = {
        degree: kv_bytes(
            small, engine_layout(config(engine_kwargs={"tensor_parallel_size": degree})), 100
        )
        for degree in (1, 2, 4)
    }
    assert of[2] == of[1] / 2
    assert of[4] == of[2]


def test_a_pipeline_shares_out_layers(small: ModelShape, config: Make) -> None:
    made = config(engine_kwargs={"pipeline_parallel_size": 2})
    assert kv_bytes(small, engine_layout(made), 100) == 100 * 6_144 * 2 / 2
    assert _memory(small, made).parts["weights"] == small.parameters


# What vLLM logged as "Model loading took ... GiB" on each GPU, spread over so many.
PUBLISHED_LOADING = {"Qwen/Qwen3-30B-A3B": (4, 14.2474)}


@pytest.mark.parametrize("name", PUBLISHED_LOADING)
def test_weights_are_what_vllm_logged(name: str, config: Make) -> None:
    degree, gib = PUBLISHED_LOADING[name]
    made = config(engine_kwargs={"tensor_parallel_size": degree})
    memory = _memory(model_shape(name, fetch=False), made)
    assert memory.parts["weights"] / GIB == pytest.approx(gib, rel=0.01)


@pytest.mark.parametrize("degree", [1, 2, 4])
def test_more_gpus_hold_more_responses(degree: int, large: ModelShape, config: Make) -> None:
    one, more = (
        _memory(large, config(engine_kwargs={"tensor_parallel_size": size}))
        for size in (degree, 2 * degree)
    )
    assert more.at_once > 2 * one.at_once


def test_longer_responses_fit_fewer_at_a_time(small: ModelShape, config: Make) -> None:
    short, long = (_memory(small, config(max_response_tokens=n)) for n in (1024, 4096))
    assert long.at_once < short.at_once
    assert long.cached_tokens == pytest.approx(short.cached_tokens)


def test_transformers_keeps_one_group_at_a_time(small: ModelShape, config: Make) -> None:
    made = config(engine="transformers", group_size=4, num_gpus_per_env_runner=0)
    memory = _memory(small, made)
    assert memory.cache == 4 * 4096 * 2 * 6_144
    assert memory.at_once == pytest.approx(4)
