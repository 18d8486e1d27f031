"""A run's memory and time on some hardware, and whether it fits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rllib_dapo.capacity.engine_memory import EngineMemory, engine_memory
from rllib_dapo.capacity.hardware import GIB, Hardware
from rllib_dapo.capacity.layout import EnginesLayout, LearnerLayout, engine_layout, learner_layout
from rllib_dapo.capacity.learner_memory import ProcessMemory, learner_memory
from rllib_dapo.capacity.model_shape import ModelShape
from rllib_dapo.capacity.shared_gpu import (
    ASLEEP,
    bytes_at_rest,
    bytes_in_main_memory,
    sleeping_base,
)
from rllib_dapo.capacity.step_seconds import StepSeconds, step_seconds
from rllib_dapo.rollout.vllm_settings import USABLE, share_beside

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# Main memory of a process before it has a model: Python, torch, Ray, and for an engine vLLM.
LEARNER_BASE, ENGINE_BASE, MAIN_BASE = 0.7 * GIB, 1.2 * GIB, 1.5 * GIB
DEFAULT_ACCEPTED = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What a run will want.

    Attributes:
        shape: The model.
        hardware: The machines.
        learners: The Learners.
        learner: Memory of each of them.
        engines: The engines.
        engine: Memory of each of them, on each of its GPUs.
        seconds: Times of a step; None where nothing is known of the GPUs.
        response_tokens: Mean length of a response that was assumed.
        accepted: Share of groups that was assumed to be kept.
        main_memory: Bytes of main memory that the fullest node needs.
        at_rest: Bytes that a Learner keeps on its GPU while an engine samples there; None where
            they take no turns on a GPU (`rollout.colocate`).
    """

    shape: ModelShape
    hardware: Hardware
    learners: LearnerLayout
    learner: ProcessMemory
    engines: EnginesLayout
    engine: EngineMemory
    seconds: StepSeconds | None
    response_tokens: float
    accepted: float
    main_memory: float
    at_rest: float | None

    @property
    def gpus(self) -> float:
        """GPUs that the run asks for."""
        learners = self.learners.count * self.learners.gpus
        engines = self.engines.count * self.engines.gpus
        return round(learners + engines, 6)

    @property
    def learner_room(self) -> float | None:
        """Bytes that a Learner may take of its device; None where that is not known."""
        if not self.learners.gpus:
            return self.hardware.memory_per_node
        if self.hardware.gpu is None:
            return None
        if self.at_rest is not None:  # all of it, but for what an engine keeps that sleeps
            return self.hardware.gpu.memory - ASLEEP
        return self.hardware.gpu.memory * min(1.0, self.learners.gpus)

    @property
    def learner_fits(self) -> bool:
        """Whether a Learner has room; true where the room is not known."""
        return self.learner_room is None or self.learner.total <= USABLE * self.learner_room

    @property
    def training_total(self) -> float:
        """Bytes on a Learner's device while it trains, with an engine's that sleeps there."""
        return self.learner.total + (0.0 if self.at_rest is None else ASLEEP)

    @property
    def sampling_total(self) -> float | None:
        """Bytes on a shared GPU while an engine samples; None where none is shared in turns."""
        if self.at_rest is None or self.hardware.gpu is None:
            return None
        return self.at_rest + self.engines.utilization * self.hardware.gpu.memory

    @property
    def computed_share(self) -> float | None:
        """`gpu_memory_utilization` where nobody gives one; None where no GPU is shared in turns."""
        if self.at_rest is None or self.hardware.gpu is None:
            return None
        return share_beside(self.at_rest, device_bytes=self.hardware.gpu.memory)

    @property
    def turns_fit(self) -> bool:
        """Whether an engine's share of a GPU leaves room to the Learner that rests there."""
        if self.sampling_total is None or self.hardware.gpu is None:
            return True
        return self.sampling_total <= USABLE * self.hardware.gpu.memory

    @property
    def engine_fits(self) -> bool:
        """Whether an engine's cache holds one response of full length."""
        return self.engine.at_once >= 1 or (self.engines.gpus > 0 and self.hardware.gpu is None)

    @property
    def main_memory_fits(self) -> bool:
        """Whether a node's main memory holds what lies there; true where it is not known."""
        room = self.hardware.memory_per_node
        return room is None or self.main_memory <= USABLE * room

    @property
    def has_gpus(self) -> bool:
        """Whether there are as many GPUs as the run asks for."""
        return self.gpus <= self.hardware.gpus


def make_plan(
    config: DAPOConfig,
    shape: ModelShape,
    hardware: Hardware,
    *,
    response_tokens: float | None = None,
    accepted: float = DEFAULT_ACCEPTED,
) -> RunPlan:
    """Plans a run.

    Args:
        config: Valid configuration without search spaces.
        shape: Its model.
        hardware: The machines it is to run on.
        response_tokens: Mean length of a response; by default half of the longest.
        accepted: Share of groups that dynamic sampling keeps.

    Raises:
        ValueError: If the DeepSpeed configuration contradicts another setting; one line.
    """
    mean = config.max_response_tokens / 2 if response_tokens is None else response_tokens
    learners, engines = learner_layout(config), engine_layout(config)
    learner = learner_memory(shape, config, learners, response_tokens=mean)
    at_rest = None
    if config.takes_turns and learners.gpus:
        at_rest = bytes_at_rest(learner, learners, config)
        waiting = bytes_in_main_memory(learner, learners) | sleeping_base(shape, config, engines)
        learner = replace(learner, host=learner.host | waiting)
        if hardware.gpu is not None and not engines.utilization_is_given:
            share = share_beside(at_rest, device_bytes=hardware.gpu.memory)
            engines = replace(engines, utilization=share)
    engine = engine_memory(
        shape, config, engines, gpu=hardware.gpu if engines.gpus else None, response_tokens=mean
    )

    seconds = None
    if hardware.gpu is not None or not (learners.gpus or engines.gpus):
        seconds = step_seconds(
            shape,
            config,
            hardware,
            learners=learners,
            engines=engines,
            at_once=engine.at_once_mean,
            response_tokens=mean,
            accepted=accepted,
        )
    return RunPlan(
        shape=shape,
        hardware=hardware,
        learners=learners,
        learner=learner,
        engines=engines,
        engine=engine,
        seconds=seconds,
        response_tokens=mean,
        accepted=accepted if config.dynamic_sampling_enabled else 1.0,
        main_memory=_main_memory(learners, learner, engines, engine, hardware),
        at_rest=at_rest,
    )


def _main_memory(
    learners: LearnerLayout,
    learner: ProcessMemory,
    engines: EnginesLayout,
    engine: EngineMemory,
    hardware: Hardware,
) -> float:
    """Main memory of the fullest node: Ray fills one node after the other."""

    def on_a_node(count: int, gpus: float) -> int:
        if not gpus:
            return math.ceil(count / hardware.nodes)
        return min(count, max(1, int(hardware.gpus_per_node / gpus)))

    of_learner = learner.host_total if learners.gpus else learner.total
    of_learner += 0 if learners.in_main_process else LEARNER_BASE
    of_engine = 0.0 if engines.gpus else engine.total * engines.workers
    of_engine += 0 if engines.in_main_process else ENGINE_BASE

    # Where GPUs are few, Learners and engines lie on different nodes; the larger sum counts.
    parts = (
        on_a_node(learners.count, learners.gpus) * of_learner,
        on_a_node(engines.count, engines.gpus) * of_engine,
    )
    share = (learners.gpus or engines.gpus) and hardware.nodes > 1
    return MAIN_BASE + (max(parts) if share else sum(parts))


def plan_as_json(plan: RunPlan) -> dict[str, Any]:
    """A plan as plain values: bytes, seconds and counts.

    Args:
        plan: The plan.
    """
    seconds = plan.seconds
    return {
        "model": {
            "parameters": plan.shape.parameters,
            "active_parameters": plan.shape.active_parameters,
            "layers": plan.shape.layers,
        },
        "hardware": {
            "nodes": plan.hardware.nodes,
            "gpus_per_node": plan.hardware.gpus_per_node,
            "gpu": plan.hardware.gpu.name if plan.hardware.gpu else None,
            "gpu_bytes": plan.hardware.gpu.memory if plan.hardware.gpu else None,
            "memory_bytes_per_node": plan.hardware.memory_per_node,
        },
        "gpus": plan.gpus,
        "learners": {
            "count": plan.learners.count,
            "gpus_each": plan.learners.gpus,
            "layout": plan.learners.text,
            "precision": plan.learners.precision,
            "device_bytes": plan.learner.device,
            "device_bytes_total": plan.learner.total,
            "device_bytes_there": plan.learner_room,
            "main_memory_bytes": plan.learner.host,
            "loading_bytes": plan.learner.loading,
            "fits": plan.learner_fits,
        },
        "engines": {
            "count": plan.engines.count,
            "gpus_each": plan.engines.gpus,
            "tensor_parallel_size": plan.engines.tensor_parallel,
            "pipeline_parallel_size": plan.engines.pipeline_parallel,
            "device_bytes": plan.engine.parts,
            "cache_bytes": plan.engine.cache,
            "cached_tokens": plan.engine.cached_tokens,
            "longest_responses_at_once": plan.engine.at_once,
            "mean_responses_at_once": plan.engine.at_once_mean,
            "fits": plan.engine_fits,
        },
        "turns": None
        if plan.at_rest is None
        else {
            "learner_bytes_at_rest": plan.at_rest,
            "gpu_memory_utilization": plan.engines.utilization,
            "training_bytes": plan.training_total,
            "sampling_bytes": plan.sampling_total,
            "fits": plan.turns_fit,
        },
        "main_memory": {"bytes_per_node": plan.main_memory, "fits": plan.main_memory_fits},
        "step": None
        if seconds is None
        else {
            "responses": seconds.responses,
            "mean_response_tokens": plan.response_tokens,
            "accepted": plan.accepted,
            "sampling_s": seconds.sampling,
            "training_s": seconds.training,
            "transfer_s": seconds.transfers,
            "transfer_bytes": seconds.transfer_bytes,
            "sampled_tokens_per_s": seconds.sampled_tokens_per_s,
            "trained_tokens_per_s": seconds.trained_tokens_per_s,
        },
    }
