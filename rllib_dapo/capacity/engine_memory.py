"""The memory of one engine, and how many responses it can hold at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rllib_dapo.capacity.hardware import Gpu
from rllib_dapo.capacity.layout import WIDTH, EnginesLayout
from rllib_dapo.capacity.learner_memory import CUDA_CONTEXT, NCCL_BUFFERS
from rllib_dapo.capacity.model_shape import ModelShape
from rllib_dapo.config.lora_checks import lora_settings

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# What vLLM's compiled graphs for decoding take on a GPU, about.
CUDA_GRAPHS = 1.0 * 2**30
# What vLLM's engine takes of main memory before there is any model, about.
ENGINE_ALONE = 64 * 2**20
# Copies of the last token's scores, of all sequences, while they are sampled from in float32.
SAMPLER_COPIES = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineMemory:
    """What an engine needs on each of its GPUs, or in main memory, in bytes.

    Attributes:
        parts: Bytes by part, the cache not among them.
        cache: Bytes for keys and values.
        at_once: Responses of full length that fit into the cache at the same time.
        at_once_mean: The same for responses of the mean length.
        cached_tokens: Tokens that fit into the cache, of one sequence.
    """

    parts: dict[str, float]
    cache: float
    at_once: float
    at_once_mean: float
    cached_tokens: float

    @property
    def total(self) -> float:
        """Bytes, with the cache."""
        return sum(self.parts.values()) + max(0.0, self.cache)


def engine_memory(
    shape: ModelShape,
    config: DAPOConfig,
    layout: EnginesLayout,
    *,
    gpu: Gpu | None,
    response_tokens: float,
) -> EngineMemory:
    """What one engine takes, on each of its GPUs or in main memory.

    On a GPU vLLM takes `gpu_memory_utilization` of the whole, and what weights and work leave of
    that is the cache. On a CPU the cache has the size of `rollout.cpu_kv_cache_gib`.

    Args:
        shape: The model.
        config: Valid configuration without search spaces.
        layout: The engines.
        gpu: What each of its GPUs is; None on a CPU, or where that is not known.
        response_tokens: Mean length of a response.
    """
    width = WIDTH[layout.dtype]
    longest = config.max_prompt_tokens + config.max_response_tokens
    mean = config.max_prompt_tokens / 2 + response_tokens
    parts = {"weights": width * shape.parameters / layout.workers}
    lora = lora_settings(config)
    if lora is not None and layout.kind == "vllm":
        parts["adapter"] = width * shape.adapter_parameters(lora)

    if layout.kind == "transformers":
        batch = min(config.group_size, layout.concurrency)
        cache = batch * kv_bytes(shape, layout, longest)
        parts["work"] = SAMPLER_COPIES * 4.0 * batch * shape.vocabulary
    else:
        parts["work"] = _work_bytes(shape, layout)
        cache = layout.cpu_cache
        if not layout.gpus:
            parts["vLLM"] = ENGINE_ALONE
            # On CPUs it packs each weight anew. That of a projection that is also the table of
            # embeddings has to stay as it is, too, and when vLLM loads the model it packs both.
            if shape.ties_embeddings:
                packed = 2 * shape.embedding_parameters
                parts["packed projection"] = width * packed / layout.workers
    if layout.gpus:
        parts["CUDA, graphs"] = CUDA_CONTEXT + CUDA_GRAPHS
        parts["CUDA, graphs"] += NCCL_BUFFERS if layout.workers > 1 else 0
        if layout.kind == "vllm":
            cache = 0.0 if gpu is None else layout.utilization * gpu.memory - sum(parts.values())

    at_once, at_once_mean = (
        max(0.0, cache) / kv_bytes(shape, layout, tokens) if shape.kv_elements(1) else math.inf
        for tokens in (longest, mean)
    )
    return EngineMemory(
        parts=parts,
        cache=cache,
        at_once=at_once,
        at_once_mean=at_once_mean,
        cached_tokens=at_once * longest,
    )


def kv_bytes(shape: ModelShape, layout: EnginesLayout, tokens: float) -> float:
    """Bytes of one sequence's keys and values on each of an engine's GPUs.

    Heads of keys and values are shared out over the GPUs of a layer; where there are fewer heads
    than GPUs, several GPUs hold the same one.

    Args:
        shape: The model.
        layout: The engines.
        tokens: Length of the sequence.

    Source: vLLM's paged attention (arXiv 2309.06180).
    """
    heads = max(1, math.ceil(shape.kv_heads / layout.tensor_parallel))
    numbers = shape.kv_elements(tokens, kv_heads=heads) / layout.pipeline_parallel
    return WIDTH[layout.dtype] * numbers


def _work_bytes(shape: ModelShape, layout: EnginesLayout) -> float:
    """Bytes of the largest forward pass, and of the scores that are sampled from."""
    width, tp = WIDTH[layout.dtype], layout.tensor_parallel
    per_token = 4 * shape.hidden + (3 * shape.inner + 2 * shape.heads * shape.head_size) / tp
    scores = SAMPLER_COPIES * 4.0 * layout.concurrency * shape.vocabulary
    return width * layout.batched_tokens * per_token + scores
