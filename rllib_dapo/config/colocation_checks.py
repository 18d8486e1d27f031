"""Whether engines and Learners can take turns on a device: all that settings alone can tell."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

_SET = "rollout.colocate=true"
_ELSE = "set rollout.colocate to false"
# Ways of the weights between two sides of which only one has its memory at a time. The others keep
# groups and buffers of their own on both.
_WAYS = ("auto", "ipc", "object_store")


def check_colocation(config: DAPOConfig) -> Iterator[str]:
    """Findings on `rollout.colocate`.

    Args:
        config: Configuration whose values are of their kinds.

    Yields:
        One line for each finding.
    """
    # RLlib makes evaluation's configuration of training's, with no EnvRunners.
    if not config.colocate or config.in_evaluation:
        return
    if config.engine != "vllm":
        yield (
            f"{_SET} needs rollout.engine=vllm, whose engines can sleep, and that is "
            f"{config.engine!r}: {_ELSE}"
        )
        return

    yield from _check_pairs(config)
    yield from _check_shares(config)
    if config.weight_transfer not in _WAYS:
        yield (
            f"weights.transfer={config.weight_transfer!r} does not go with {_SET}: set it to auto, "
            "which takes ipc on a GPU"
        )
    if "enable_sleep_mode" in config.engine_kwargs:
        yield (
            "rollout.engine_kwargs.enable_sleep_mode="
            f"{config.engine_kwargs['enable_sleep_mode']!r} is set by rollout.colocate: leave it "
            "out"
        )
    if config.num_gpus_per_learner:
        yield from _check_resting(config)


def _check_pairs(config: DAPOConfig) -> Iterator[str]:
    """Findings on who shares a device with whom."""
    learners = max(1, config.num_learners)
    if config.num_env_runners == 0:
        yield (
            f"{_SET} needs engines in processes of their own, and env_runners.num_env_runners=0 "
            f"puts the engine into the driver's: set that to {learners}"
        )
    elif config.num_env_runners != learners:
        yield (
            f"{_SET} pairs each engine with a Learner, and env_runners.num_env_runners="
            f"{config.num_env_runners} with learners.num_learners={config.num_learners} leaves "
            f"some alone: set env_runners.num_env_runners to {learners}"
        )
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        if getattr(config, name) > 1:
            yield (
                f"rollout.{name}={getattr(config, name)} spreads an engine over several devices, "
                f"and {_SET} has it share one: set it to 1, or {_ELSE}"
            )


def _check_shares(config: DAPOConfig) -> Iterator[str]:
    """Findings on what Ray is told of a GPU for two."""
    learner, engine = config.num_gpus_per_learner, config.num_gpus_per_env_runner
    if config.num_engine_workers > 1 or not (learner or engine):
        return
    given = (
        f"learners.num_gpus_per_learner={learner} and env_runners.num_gpus_per_env_runner={engine}"
    )
    if not (learner > 0 and engine > 0 and learner + engine <= 1):
        yield (
            f"{_SET} has Learner and engine share one GPU, and there are {given}: leave both out, "
            "their shares follow from it"
        )
    elif config.num_learners > 1 and engine <= 0.5:
        yield (
            f"{_SET} with several pairs and {given} lets Ray put two engines on a GPU: leave both "
            "out, or give each engine more than half of one"
        )


def _check_resting(config: DAPOConfig) -> Iterator[str]:
    """Findings on an optimizer's state that could not leave the GPU."""
    if config.deepspeed_config is None or importlib.util.find_spec("deepspeed") is None:
        return
    from rllib_dapo.learner.deepspeed_config import resolve_deepspeed_config

    try:
        zero = resolve_deepspeed_config(config).get("zero_optimization", {})
    except ValueError:
        return  # it is told with the settings of DeepSpeed
    if (zero.get("offload_optimizer") or {}).get("device") not in ("cpu", "nvme"):
        yield (
            f"deepspeed.config without zero_optimization.offload_optimizer keeps the optimizer's "
            f"state on the GPU, and with {_SET} it must leave room to the engine: add "
            "{offload_optimizer: {device: cpu}} to it, or leave deepspeed.config out"
        )
