"""Which processes a run has, and what of the model each of them holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rllib_dapo.core.batching import AUTO_KEYS
from rllib_dapo.learner.deepspeed_config import resolve_deepspeed_config, zero_stage

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

Precision = Literal["float64", "float32", "autocast", "bfloat16"]

# Bytes of a number in what is computed.
WIDTH = {"float64": 8, "float32": 4, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnerLayout:
    """The Learners.

    Attributes:
        count: Number of Learners.
        gpus: GPUs that each asks for, perhaps a fraction.
        stage: ZeRO stage; 0 without.
        precision: How they compute: in one type, or in bfloat16 over float32 weights (`autocast`).
        offloads_optimizer: Whether the optimizer's state rests in main memory.
        offloads_parameters: Whether sharded weights do.
        bucket_bytes: What DDP or DeepSpeed gather gradients, and ZeRO-3 weights, in.
        moment_bytes: Bytes of both of Adam's moments of one weight.
        in_main_process: Whether the Learner has no process of its own.
    """

    count: int
    gpus: float
    stage: int
    precision: Precision
    offloads_optimizer: bool
    offloads_parameters: bool
    bucket_bytes: float
    moment_bytes: float
    in_main_process: bool

    @property
    def shards(self) -> tuple[int, int, int]:
        """In how many parts weights, gradients and optimizer state are cut."""
        w = self.count
        return (w if self.stage == 3 else 1, w if self.stage >= 2 else 1, w if self.stage else 1)

    @property
    def text(self) -> str:
        """The layout in a few words."""
        kind = f"ZeRO {self.stage}" if self.stage else ("DDP" if self.count > 1 else "whole")
        parts = [kind]
        if self.offloads_optimizer:
            parts.append("optimizer offloaded")
        if self.offloads_parameters:
            parts.append("weights offloaded")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnginesLayout:
    """The engines.

    Attributes:
        count: Number of engines, one for each EnvRunner.
        gpus: GPUs that each asks Ray for, perhaps a fraction.
        tensor_parallel: GPUs that each layer is spread over.
        pipeline_parallel: GPUs that the stack of layers is spread over.
        utilization: Share of a GPU that vLLM takes.
        utilization_is_given: Whether `rollout.engine_kwargs` names it.
        kind: `vllm` or `transformers`.
        dtype: Type of its weights and of its cache.
        concurrency: Most responses at a time.
        batched_tokens: Most tokens of one forward pass.
        cpu_cache: Bytes of the key-value cache on a machine without a GPU.
        in_main_process: Whether it has no process of its own.
    """

    count: int
    gpus: float
    tensor_parallel: int
    pipeline_parallel: int
    utilization: float
    utilization_is_given: bool
    kind: str
    dtype: str
    concurrency: int
    batched_tokens: int
    cpu_cache: float
    in_main_process: bool

    @property
    def workers(self) -> int:
        """GPUs, or processes on CPUs, that hold the model together."""
        return self.tensor_parallel * self.pipeline_parallel


def learner_layout(config: DAPOConfig) -> LearnerLayout:
    """The Learners that a configuration asks for.

    Args:
        config: Valid configuration without search spaces.

    Raises:
        ValueError: If its DeepSpeed configuration contradicts another setting; one line.
    """
    settings = {} if config.deepspeed_config is None else resolve_deepspeed_config(config)
    zero: dict[str, Any] = settings.get("zero_optimization", {})
    stage, count = zero_stage(settings), max(1, config.num_learners)
    half = config.model_dtype == "bfloat16"
    precision: Precision = config.model_dtype
    if half and stage == 0 and config.lora is None:  # the base of an adapter is bfloat16, too
        precision = "autocast"

    optimizer = _optimizer_name(config)
    return LearnerLayout(
        count=count,
        gpus=float(config.num_gpus_per_learner or 0),
        stage=stage,
        precision=precision,
        offloads_optimizer=_is_offloaded(zero, "offload_optimizer") or "cpu" in optimizer,
        offloads_parameters=stage == 3 and _is_offloaded(zero, "offload_param"),
        bucket_bytes=_bucket_bytes(zero, stage, 2 if half else 4) if count > 1 or stage else 0,
        moment_bytes=2 if "8bit" in optimizer else 2 * (8 if precision == "float64" else 4),
        in_main_process=config.num_learners == 0,
    )


def engine_layout(config: DAPOConfig) -> EnginesLayout:
    """The engines that a configuration asks for.

    Args:
        config: Valid configuration without search spaces.
    """
    extra = config.engine_kwargs if config.engine == "vllm" else {}
    longest = config.max_prompt_tokens + config.max_response_tokens

    def degree(name: str) -> int:
        return max(int(getattr(config, name, None) or 1), int(extra.get(name) or 1))

    tensor_parallel, pipeline_parallel = (
        degree(f"{kind}_parallel_size") for kind in ("tensor", "pipeline")
    )
    gpus = _engine_gpus(config, tensor_parallel * pipeline_parallel)

    # On a CPU prompts are read whole, on a GPU in pieces of vLLM's own size.
    default_batch = 8192 if gpus else max(longest, 4096)
    return EnginesLayout(
        count=1 if config.samples_elsewhere else max(1, config.num_env_runners),
        gpus=gpus,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        utilization=float(extra.get("gpu_memory_utilization", 0.92)),
        utilization_is_given="gpu_memory_utilization" in extra,
        kind=config.engine,
        dtype=config.model_dtype if config.engine == "transformers" else _vllm_dtype(config),
        concurrency=int(extra.get("max_num_seqs", config.max_concurrent_responses)),
        batched_tokens=int(extra.get("max_num_batched_tokens", default_batch)),
        cpu_cache=config.cpu_kv_cache_gib * 2**30,
        in_main_process=config.num_env_runners == 0 and not config.samples_elsewhere,
    )


def microbatch_rows(config: DAPOConfig) -> tuple[int, int]:
    """The largest micro-batch: number of rows, and tokens of each.

    Args:
        config: Valid configuration without search spaces.

    Returns:
        Rows and tokens a row; a row alone may be longer than `max_tokens_per_microbatch`.
    """
    longest = config.max_prompt_tokens + config.max_response_tokens
    whole_group = config.max_prompt_tokens + config.group_size * config.max_response_tokens
    bound = config.max_shared_row_tokens
    bound = AUTO_KEYS if bound == "auto" else bound
    row = max(longest, min(bound, whole_group))
    each = max(1, (row - config.max_prompt_tokens) // config.max_response_tokens)
    most = math.ceil(config.minibatch_size / each / max(1, config.num_learners))
    return min(max(1, config.max_tokens_per_microbatch // row), max(1, most)), row


def microbatches_of_update(config: DAPOConfig, *, response_tokens: float) -> int:
    """Micro-batches of one Learner in an optimizer step.

    Args:
        config: Valid configuration without search spaces.
        response_tokens: Mean length of a response.
    """
    tokens = config.minibatch_size * (config.max_prompt_tokens / 2 + response_tokens)
    share = tokens / max(1, config.num_learners)
    return max(1, math.ceil(share / max(1, config.max_tokens_per_microbatch)))


def _engine_gpus(config: DAPOConfig, workers: int) -> float:
    """GPUs of an engine with its workers, wherever Ray places these."""
    if config.samples_elsewhere:
        return float(config.host_resources["num_gpus"])
    own = float(config.num_gpus_per_env_runner or 0)
    in_other_bundles = getattr(config, "has_ray_workers", False)
    if in_other_bundles and getattr(config, "engine_has_gpus", False):
        return float(workers)
    return max(own, float(workers)) if own >= 1 else own


def _vllm_dtype(config: DAPOConfig) -> str:
    return "float32" if config.model_dtype == "float64" else config.model_dtype


def _optimizer_name(config: DAPOConfig) -> str:
    """The kind of optimizer; RLlib has a mapping under the plain name."""
    for name in ("optimizer_kind", "optimizer_name", "optimizer_type", "optimizer"):
        value = getattr(config, name, None)
        if isinstance(value, str):
            return value.lower().replace("_", "").replace("-", "")
    return "adamw"


def _is_offloaded(zero: dict[str, Any], section: str) -> bool:
    device = (zero.get(section) or {}).get("device", "none")
    return device not in (None, "none")


def _bucket_bytes(zero: dict[str, Any], stage: int, width: int) -> float:
    """Buffers of DeepSpeed: gradients on their way, and whole weights of ZeRO-3."""

    def size(name: str, default: float) -> float:
        value = zero.get(name, default)
        return float(default if value == "auto" else value)

    if stage == 0:
        return 0.0
    buckets = size("reduce_bucket_size", 5e8) * (2 if zero.get("overlap_comm", stage == 3) else 1)
    if stage == 3:
        buckets += size("stage3_prefetch_bucket_size", 5e7)
    return buckets * width
