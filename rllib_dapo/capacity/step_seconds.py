"""How long sampling, training and the hand-over of weights will take, by a roofline estimate.

Each part takes as long as its arithmetic or its traffic, whichever is longer, at a share of what
the data sheet says. Waiting for environments, stragglers and start-up are not in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rllib_dapo.capacity.engine_memory import kv_bytes
from rllib_dapo.capacity.hardware import CORE_FLOPS, CPU_BANDWIDTH, Hardware
from rllib_dapo.capacity.layout import WIDTH, EnginesLayout, LearnerLayout, microbatches_of_update
from rllib_dapo.capacity.model_shape import ModelShape
from rllib_dapo.config.lora_checks import lora_settings

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# Shares of the data sheet's rates that are reached: arithmetic of training and of reading prompts,
# traffic of decoding, links between devices.
FLOPS_SHARE, BANDWIDTH_SHARE, LINK_SHARE = 0.4, 0.6, 0.7
# Seconds of a decoding pass beside its arithmetic, and of each sequence in it: scheduling, and the
# draw of a token with a generator of its own.
PASS_SECONDS, SEQUENCE_SECONDS = 0.004, {"gpu": 3e-5, "cpu": 2e-4}
# Bytes a second of one copy in main memory, by one thread.
HOST_COPY = 5e9


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSeconds:
    """Seconds of one training step, and what they come from.

    Attributes:
        sampling: Of the rollout, all rounds.
        training: Of the update, with scoring.
        transfers: Of handing over the weights, by each way.
        transfer_bytes: Bytes that travel to each engine.
        sampled_tokens_per_s: Of all engines together.
        trained_tokens_per_s: Of all Learners together, prompts included.
        responses: Responses sampled in the step.
    """

    sampling: float
    training: float
    transfers: dict[str, float]
    transfer_bytes: float
    sampled_tokens_per_s: float
    trained_tokens_per_s: float
    responses: float

    @property
    def transfer(self) -> float:
        """Seconds of the way that is taken: the first."""
        return next(iter(self.transfers.values()))

    @property
    def total(self) -> float:
        """Seconds of the step: the parts come one after the other."""
        return self.sampling + self.training + self.transfer


def step_seconds(
    shape: ModelShape,
    config: DAPOConfig,
    hardware: Hardware,
    *,
    learners: LearnerLayout,
    engines: EnginesLayout,
    at_once: float,
    response_tokens: float,
    accepted: float,
) -> StepSeconds:
    """The times of one training step.

    Args:
        shape: The model.
        config: Valid configuration without search spaces.
        hardware: The machines.
        learners: The Learners.
        engines: The engines.
        at_once: Responses of mean length that an engine's cache holds.
        response_tokens: Mean length of a response.
        accepted: Share of groups that dynamic sampling keeps.
    """
    responses = config.prompts_per_step * config.group_size
    kept = accepted if config.dynamic_sampling_enabled else 1.0
    sampled = responses / kept

    sampling = _sampling_seconds(
        shape,
        config,
        hardware,
        engines,
        responses=sampled / engines.count,
        at_once=at_once,
        response_tokens=response_tokens,
    )
    training = _training_seconds(shape, config, hardware, learners, response_tokens=response_tokens)
    tokens = responses * (config.max_prompt_tokens / 2 + response_tokens)
    return StepSeconds(
        sampling=sampling,
        training=training,
        transfers=transfer_seconds(shape, config, hardware, learners=learners, engines=engines),
        transfer_bytes=transferred_bytes(shape, config, engines),
        sampled_tokens_per_s=sampled * response_tokens / sampling,
        trained_tokens_per_s=tokens / training,
        responses=sampled,
    )


def forward_flops(shape: ModelShape, *, tokens: float, context: float) -> float:
    """`2 N tokens + 4 layers heads head_size context tokens`: of one forward pass.

    Args:
        shape: The model; `N` are the parameters that a token is multiplied with.
        tokens: Number of tokens.
        context: Mean number of tokens that each looks back on.

    Source: Kaplan et al. 2020 (arXiv 2001.08361, Section 2.1).
    """
    attention = sum(min(context, context if w is None else w) for w in shape.windows)
    scores = 4 * shape.heads * shape.head_size * attention
    return tokens * (2 * shape.active_parameters + scores)


def _sampling_seconds(
    shape: ModelShape,
    config: DAPOConfig,
    hardware: Hardware,
    layout: EnginesLayout,
    *,
    responses: float,
    at_once: float,
    response_tokens: float,
) -> float:
    """One engine's share: prompts are read, then every pass gives one token to each response."""
    flops, bandwidth = _rates(hardware, layout.gpus > 0, layout.dtype)
    flops *= layout.workers
    prompt = config.max_prompt_tokens / 2
    batch = max(1.0, min(layout.concurrency, responses, at_once))
    if layout.kind == "transformers":
        batch = max(1.0, min(config.group_size, layout.concurrency, responses))

    # The prompt of a group is read once, its responses find it in the cache.
    reading = forward_flops(shape, tokens=prompt, context=prompt / 2)
    prefill = responses / config.group_size * reading / flops

    # A pass reads the weights once, of a mixture those of the experts that are chosen at all, and
    # the keys and values of every response.
    context = prompt + response_tokens / 2
    weights = WIDTH[layout.dtype] * _weights_read(shape, batch) / layout.workers
    traffic = weights + batch * kv_bytes(shape, layout, context)
    arithmetic = forward_flops(shape, tokens=batch, context=context)
    one_pass = max(traffic / bandwidth, arithmetic / flops) + PASS_SECONDS
    one_pass += batch * SEQUENCE_SECONDS["gpu" if layout.gpus else "cpu"]
    return prefill + responses * response_tokens / batch * one_pass


def _training_seconds(
    shape: ModelShape,
    config: DAPOConfig,
    hardware: Hardware,
    layout: LearnerLayout,
    *,
    response_tokens: float,
) -> float:
    """Forward, backward and scoring passes of one Learner, and what ZeRO-3 has to gather."""
    flops, _ = _rates(hardware, layout.gpus > 0, config.model_dtype)
    length = config.max_prompt_tokens / 2 + response_tokens
    responses = config.prompts_per_step * config.group_size / layout.count
    once = forward_flops(shape, tokens=responses * length, context=length / 2)

    # A backward pass is two forward passes, one of them for the weights' gradient, which the base
    # of an adapter has not; one more recomputes activations.
    updates = max(1, round(config.train_batch_responses / config.minibatch_size))
    scored = 1 - 1 / updates if config.old_logprobs == "trainer" else 0.0
    backward = 2 if config.lora is None else 1
    passes = 1 + backward + config.gradient_checkpointing + scored + config.needs_reference
    arithmetic = passes * once / flops

    if layout.stage != 3 or layout.count == 1:
        return arithmetic
    # Weights are gathered for every forward and backward pass, and gradients scattered.
    micro = updates * microbatches_of_update(config, response_tokens=response_tokens)
    gathered = (passes + 0.0) * micro * WIDTH[config.model_dtype] * shape.parameters
    return max(arithmetic, gathered / _link(hardware, layout.count * layout.gpus))


def transfer_seconds(
    shape: ModelShape,
    config: DAPOConfig,
    hardware: Hardware,
    *,
    learners: LearnerLayout,
    engines: EnginesLayout,
) -> dict[str, float]:
    """Seconds of a hand-over of weights by each way, the one that is taken first.

    Through the object store a weight goes from the first Learner's device to main memory, is copied
    into the store, goes once to every other node, and is copied and sent to each engine's device.
    Over NCCL it goes from device to device; a GPU that both share is read and written.

    Args:
        shape: The model.
        config: Valid configuration without search spaces.
        hardware: The machines.
        learners: The Learners.
        engines: The engines.
    """
    size = transferred_bytes(shape, config, engines)
    devices = learners.count * learners.gpus + engines.count * engines.gpus
    gather = 0.0
    if learners.stage == 3 and learners.count > 1:
        gather = size / _link(hardware, learners.count * learners.gpus)

    host = hardware.gpu.host_link * LINK_SHARE if hardware.gpu and learners.gpus else math.inf
    out = hardware.gpu.host_link * LINK_SHARE if hardware.gpu and engines.gpus else math.inf
    across = size / (hardware.network * LINK_SHARE) if hardware.nodes > 1 else 0.0
    ways = {"object store": gather + size / host + 3 * size / HOST_COPY + across + size / out}
    if hardware.gpu and learners.gpus and engines.gpus:
        # Two processes on one GPU share its memory, and NCCL cannot join them.
        shares = 0 < learners.gpus < 1 and 0 < engines.gpus < 1
        local = size / (BANDWIDTH_SHARE * hardware.gpu.bandwidth)
        fast = {"ipc": local} if shares else {"nccl": gather + size / _link(hardware, devices)}
        ways = fast | ways

    if config.lora is not None:  # it has a way of its own
        return {"object store": ways["object store"]}
    wanted = str(getattr(config, "weight_transfer", "auto")).replace("_", " ")
    return {wanted: ways[wanted], **ways} if wanted in ways else ways


def transferred_bytes(shape: ModelShape, config: DAPOConfig, engines: EnginesLayout) -> float:
    """Bytes that travel to each engine after an update: all weights, or the adapter alone.

    Args:
        shape: The model.
        config: Valid configuration without search spaces.
        engines: The engines.
    """
    lora = lora_settings(config)
    takes_adapters = lora is not None and engines.kind == "vllm"
    count = shape.adapter_parameters(lora) if lora and takes_adapters else shape.parameters
    return float(WIDTH[engines.dtype] * count)


def _rates(hardware: Hardware, on_gpu: bool, dtype: str) -> tuple[float, float]:
    """Operations and bytes a second that one device reaches."""
    if on_gpu and hardware.gpu is not None:
        gpu = hardware.gpu
        return FLOPS_SHARE * gpu.flops(dtype), BANDWIDTH_SHARE * gpu.bandwidth
    cores = hardware.cpus_per_node
    return FLOPS_SHARE * cores * CORE_FLOPS[dtype], BANDWIDTH_SHARE * CPU_BANDWIDTH


def _link(hardware: Hardware, devices: float) -> float:
    """Bytes a second between some devices: the network's share of a GPU where they span nodes."""
    if hardware.gpu is None:
        return LINK_SHARE * HOST_COPY
    if devices > hardware.gpus_per_node:
        return LINK_SHARE * min(hardware.gpu.link, hardware.network)
    return LINK_SHARE * hardware.gpu.link


def _weights_read(shape: ModelShape, batch: float) -> float:
    """Parameters that one pass over a batch reads: experts that nobody is sent to are not."""
    idle = shape.projection_parameters - shape.active_parameters
    if not idle:
        return shape.active_parameters
    share = shape.active_parameters / shape.projection_parameters
    return shape.active_parameters + idle * (1 - (1 - share) ** batch)
