"""The memory of one Learner, part by part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rllib_dapo.capacity.activations import (
    checkpointed_layers,
    head_bytes,
    heap_bytes,
    layer_backward_bytes,
    stack_bytes,
)
from rllib_dapo.capacity.layout import (
    WIDTH,
    LearnerLayout,
    microbatch_rows,
    microbatches_of_update,
)
from rllib_dapo.capacity.model_shape import ModelShape
from rllib_dapo.config.lora_checks import lora_settings
from rllib_dapo.rollout.sampling_settings import trained_sampling_set

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# Of a CUDA context with its libraries, and of NCCL's buffers.
CUDA_CONTEXT, NCCL_BUFFERS = 0.8 * 2**30, 1.0 * 2**30
# Ids, mask and the sampler's log-probabilities as they came, two figures of the old policy, and a
# share of the micro-batch at hand; measured by `benchmarks/planned_memory.py`.
BATCH_BYTES_PER_RESPONSE_TOKEN = 17
LIVE_PARAMETERS = 1e9  # that ZeRO-3 keeps gathered at a time, its own default


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessMemory:
    """What a process needs, in bytes by part.

    Attributes:
        device: On the device it computes on: a GPU, or where it has none, main memory.
        host: In main memory, beside a GPU.
        loading: In main memory while the model is loaded, before any of `device` is there.
    """

    device: dict[str, float]
    host: dict[str, float] = field(default_factory=dict)
    loading: float = 0.0

    @property
    def total(self) -> float:
        """Bytes on the device."""
        return sum(self.device.values())

    @property
    def host_total(self) -> float:
        """Most bytes in main memory beside a GPU."""
        return max(sum(self.host.values()), self.loading)


def learner_memory(
    shape: ModelShape, config: DAPOConfig, layout: LearnerLayout, *, response_tokens: float
) -> ProcessMemory:
    """The peak of one Learner: when the backward pass of its largest micro-batch begins.

    Args:
        shape: The model.
        config: Valid configuration without search spaces.
        layout: The Learners.
        response_tokens: Mean length of a response, which decides how large a whole batch is.
    """
    on_gpu = layout.gpus > 0
    states, host = _states(shape, config, layout)

    rows, row = microbatch_rows(config)
    tokens = rows * row
    checkpointed = checkpointed_layers(config.gradient_checkpointing, shape.layers)
    stack = stack_bytes(
        shape,
        layout.precision,
        tokens=tokens,
        row_tokens=row,
        checkpointed=checkpointed,
    )
    head = head_bytes(
        shape,
        layout.precision,
        loss_tokens=rows * (row - config.max_prompt_tokens),
        chunk_tokens=config.logprob_chunk_tokens,
        is_sharded=layout.stage == 3,
        is_restricted=not trained_sampling_set(config).is_whole,
        on_gpu=on_gpu,
    )

    # The head's own backward pass comes first; what it needs is free again when the layers' begin.
    # Recomputed layers are counted with the stack.
    backward = layer_backward_bytes(shape, layout.precision, tokens=tokens)
    copies = 0.0
    if layout.precision == "autocast":
        # Autocast keeps bfloat16 copies of the weights until the graph is gone. Recomputed layers
        # make their own, one layer at a time, so the forward pass alone has them all.
        copies = 2.0 * shape.projection_parameters
        copies = max(0.0, copies - head) if config.gradient_checkpointing is True else copies

    # With one micro-batch an update, gradients come as activations go.
    kept = {"activations": stack + max(0.0, backward - head)}
    if microbatches_of_update(config, response_tokens=response_tokens) == 1:
        kept = {"activations, gradients": max(kept["activations"], states.pop("gradients"))}

    responses = config.prompts_per_step * config.group_size / layout.count
    batch = responses * response_tokens * BATCH_BYTES_PER_RESPONSE_TOKEN
    parts = states | kept | {"log-probabilities": head, "bfloat16 copies": copies, "batch": batch}
    if on_gpu:
        parts["CUDA, NCCL"] = CUDA_CONTEXT + (NCCL_BUFFERS if layout.count > 1 else 0)
        loading = _loading_bytes(shape, layout, holds_half=config.lora is not None)
        return ProcessMemory(device=_there(parts), host=_there(host), loading=loading)
    parts["heap"] = heap_bytes(
        shape, layout.precision, tokens=tokens, row_tokens=row, checkpointed=checkpointed
    )
    for name, size in host.items():
        parts[name] = parts.get(name, 0.0) + size
    return ProcessMemory(device=_there(parts))


def trained_parameters(shape: ModelShape, config: DAPOConfig) -> int:
    """Numbers that are trained, those of a value head among them.

    Args:
        shape: The model.
        config: Valid configuration without search spaces.
    """
    head = shape.hidden + 1 if config.has_critic else 0
    lora = lora_settings(config)
    if lora is not None:
        return shape.adapter_parameters(lora) + head
    return shape.trainable_parameters(config.freeze_fraction) + head


def _states(
    shape: ModelShape, config: DAPOConfig, layout: LearnerLayout
) -> tuple[dict[str, float], dict[str, float]]:
    """Weights, gradients, optimizer, reference and buffers: on the device, and offloaded."""
    count = shape.parameters + (shape.hidden + 1 if config.has_critic else 0)
    trained = trained_parameters(shape, config)
    of_weights, of_gradients, of_optimizer = layout.shards
    is_half = layout.precision == "bfloat16"
    width = 2 if is_half else WIDTH["float64" if layout.precision == "float64" else "float32"]

    weights = width * count / of_weights
    gradients = max(width, 4) * trained / of_gradients
    moments = layout.moment_bytes * trained / of_optimizer
    # Under ZeRO the optimizer has float32 masters of its own, even of float32 weights.
    masters = 4 * trained / of_optimizer if layout.stage else 0.0
    reference = width * shape.parameters / of_weights if config.needs_reference else 0.0
    if config.lora is not None:
        # The adapter is float32 beside its base, unless ZeRO has masters of it; the base with the
        # adapter off is the reference.
        weights += (width if layout.stage else max(width, 4)) * trained / of_weights
        reference = 0.0

    buffers = min(layout.bucket_bytes, 3 * max(width, 4) * trained)
    if layout.stage == 3:
        gathered = min(LIVE_PARAMETERS, shape.parameters - shape.parameters / layout.count)
        buffers += width * gathered
    elif layout.stage == 0 and layout.count > 1:
        buffers = width * trained  # DDP's buckets hold all gradients a second time

    device = {"weights": weights, "gradients": gradients, "reference": reference}
    host: dict[str, float] = {}
    resting = host if layout.offloads_optimizer else device
    resting["optimizer"] = moments + masters
    if layout.offloads_optimizer:
        host["gradients"] = 4 * trained / of_optimizer
        device["gradients"] = 0.0 if layout.stage == 3 else gradients
    if layout.offloads_parameters:
        host["weights"] = device.pop("weights")
    return device | {"buffers": buffers}, host


def _loading_bytes(shape: ModelShape, layout: LearnerLayout, *, holds_half: bool) -> float:
    """Main memory while a model is read: whole in float32, or under ZeRO-3 part by part.

    The base of an adapter is read in the type that it is held in (`holds_half`).
    """
    width = 8 if layout.precision == "float64" else 4
    if holds_half:
        width = WIDTH[layout.precision]
    if layout.stage == 3:
        largest = max(*shape.layer_parameters, shape.embedding_parameters)
        return width * (shape.parameters / layout.count + largest)
    return float(width * shape.parameters)


def _there(parts: dict[str, float]) -> dict[str, float]:
    return {name: size for name, size in parts.items() if size > 0}
