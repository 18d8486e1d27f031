"""From our settings to arguments of `vllm.LLM`."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

GIB = 1 << 30
CPU_BATCHED_TOKENS = 4096
# Share of a device's memory that can be counted on: what is free lies in pieces.
USABLE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineLayout:
    """Over which workers an engine is spread.

    Attributes:
        tensor_parallel_size: Number of workers that share each layer.
        pipeline_parallel_size: Number of groups of them that have a share of the layers each.
        executor: `"mp"` for workers that are processes of one machine, `"ray"` for Ray actors.
    """

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    executor: str = "mp"

    @property
    def num_workers(self) -> int:
        """Number of workers, each with a device of its own where there are GPUs."""
        return self.tensor_parallel_size * self.pipeline_parallel_size


def model_arguments(
    *,
    model: str,
    dtype: str,
    trust_remote_code: bool,
    max_model_len: int,
    max_num_seqs: int,
    seed: int,
) -> dict[str, Any]:
    """Arguments for any device and any number of workers; see `rollout.make_engine`."""
    return {
        "model": model,
        "dtype": dtype,
        "trust_remote_code": trust_remote_code,
        "max_model_len": max_model_len,
        "max_num_seqs": max_num_seqs,
        "seed": seed,
        "disable_log_stats": True,
        # Log-probabilities of the distribution that is sampled from: after temperature, not before.
        "logprobs_mode": "processed_logprobs",
    }


def cpu_arguments(*, max_model_len: int, cpu_kv_cache_gib: float) -> dict[str, Any]:
    """What vLLM's build for CPUs needs besides; see `rollout.make_engine`."""
    return {
        "enforce_eager": True,
        "kv_cache_memory_bytes": int(cpu_kv_cache_gib * GIB),
        # With chunked prefill, vLLM 0.32 takes back the draw for a half-read prompt from the
        # request's own generator. PyTorch's CPU generators cannot do that, so it would raise for
        # any request with a seed. Hence prompts are read whole.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(max_model_len, CPU_BATCHED_TOKENS),
    }


def layout_arguments(layout: EngineLayout, *, ray_executor: Any) -> Mapping[str, Any]:
    """How an engine is spread over several workers.

    Args:
        layout: The workers.
        ray_executor: What vLLM is given as its executor for workers that are Ray actors.
    """
    if layout.num_workers == 1:
        return {}
    return {
        "tensor_parallel_size": layout.tensor_parallel_size,
        "pipeline_parallel_size": layout.pipeline_parallel_size,
        # vLLM would choose Ray wherever it finds itself in a placement group, as in each EnvRunner.
        "distributed_executor_backend": ray_executor if layout.executor == "ray" else "mp",
    }


def turn_arguments(
    engine_kwargs: Mapping[str, Any], *, device_bytes: float, reserved_bytes: float
) -> dict[str, Any]:
    """What an engine needs that sleeps at times and shares its GPU with another process.

    Args:
        engine_kwargs: A user's own arguments, which go over these.
        device_bytes: Memory of the GPU.
        reserved_bytes: What the other process keeps there while the engine is awake.
    """
    share = share_beside(reserved_bytes, device_bytes=device_bytes)
    if "gpu_memory_utilization" in engine_kwargs:
        logger.warning(
            "rollout.engine_kwargs.gpu_memory_utilization=%s is taken; beside a Learner that rests "
            "with %.1f GiB it would be %s",
            engine_kwargs["gpu_memory_utilization"],
            reserved_bytes / GIB,
            share,
        )
    return {"enable_sleep_mode": True, "gpu_memory_utilization": share}


def share_beside(reserved_bytes: float, *, device_bytes: float) -> float:
    """Share of a GPU that an engine can take beside another process, in hundredths.

    Args:
        reserved_bytes: What the other process keeps there.
        device_bytes: Memory of the GPU.
    """
    # vLLM refuses a share of nothing, and then says why.
    hundredths = round(100 * (USABLE - reserved_bytes / device_bytes), 6)
    return max(0.01, math.floor(hundredths) / 100)
