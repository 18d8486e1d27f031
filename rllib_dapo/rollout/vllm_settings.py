"""From our settings to arguments of `vllm.LLM`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GIB = 1 << 30
CPU_BATCHED_TOKENS = 4096


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
