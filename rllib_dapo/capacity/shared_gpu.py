"""One GPU for a Learner and an engine in turns: what each keeps there while the other one works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rllib_dapo.capacity.engine_memory import CUDA_GRAPHS
from rllib_dapo.capacity.layout import WIDTH, EnginesLayout, LearnerLayout, learner_layout
from rllib_dapo.capacity.learner_memory import CUDA_CONTEXT, ProcessMemory, learner_memory
from rllib_dapo.capacity.model_shape import ModelShape, model_shape

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# Of a Learner's parts, those that stay on its GPU while it rests; DDP's buckets among them.
_STAYS = ("weights", "buffers", "CUDA, NCCL")
# Buckets of weights that it keeps from one hand-over to the next.
BUCKETS = 2
# What an engine keeps of its GPU while it sleeps.
ASLEEP = CUDA_CONTEXT + CUDA_GRAPHS


def bytes_at_rest(learner: ProcessMemory, layout: LearnerLayout, config: DAPOConfig) -> float:
    """What a Learner keeps on its GPU while engines sample.

    Args:
        learner: Its memory while it trains.
        layout: The Learners.
        config: Has the size of the buckets in which weights travel.
    """
    # A reference that is sharded is DeepSpeed's, and stays.
    stays = (*_STAYS, "reference") if layout.stage == 3 else _STAYS
    kept = sum(size for name, size in learner.device.items() if name in stays)
    return kept + BUCKETS * config.weight_bucket_mib * 2**20


def bytes_in_main_memory(learner: ProcessMemory, layout: LearnerLayout) -> dict[str, float]:
    """What of a Learner waits in main memory meanwhile, by part."""
    moved = ("optimizer",) if layout.stage == 3 else ("optimizer", "reference")
    return {name: learner.device[name] for name in moved if name in learner.device}


def sleeping_base(shape: ModelShape, config: DAPOConfig, layout: EnginesLayout) -> dict[str, float]:
    """What an engine that sleeps keeps in main memory: the base of adapters, which nobody sends.

    Args:
        shape: The model.
        config: Valid configuration without search spaces.
        layout: The engines.
    """
    if config.lora is None:
        return {}
    return {"engine's base": WIDTH[layout.dtype] * shape.parameters / layout.workers}


def with_rest_of_learner(config: DAPOConfig) -> DAPOConfig:
    """The same configuration, in which engines find how much of their GPU is a Learner's.

    Args:
        config: Valid and frozen configuration without search spaces, whose model is there.
    """
    if not (config.takes_turns and config.num_gpus_per_learner):
        return config

    layout = learner_layout(config)
    shape = model_shape(str(config.model_name), trust_remote_code=config.trust_remote_code)
    # How long responses are matters only for what does not stay.
    learner = learner_memory(shape, config, layout, response_tokens=config.max_response_tokens)
    told = config.copy(copy_frozen=False)
    told.learner_bytes_at_rest = bytes_at_rest(learner, layout, config)
    told.freeze()
    return told
