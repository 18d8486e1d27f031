"""Which way weights take, and whether it can work here: all that settings alone can tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

_ELSE = "set weights.transfer to auto"


def transfer_way(config: DAPOConfig) -> str:
    """The way that weights take: `weights.transfer`, or what `auto` stands for.

    Args:
        config: Configuration without search spaces in the settings that matter here.

    Returns:
        `"object_store"`, `"gloo"`, `"nccl"` or `"ipc"`.
    """
    if config.weight_transfer != "auto":
        return config.weight_transfer
    # Learner and engine would be one process: nothing has to travel anywhere. An adapter is small.
    if config.lora is not None or config.engine != "vllm" or config.num_env_runners == 0:
        return "object_store"
    if _has_gpus_of_its_own(config):
        return "nccl"
    return "ipc" if _share_gpus(config) else "object_store"


def check_weights(config: DAPOConfig) -> Iterator[str]:
    """Findings on the settings of section `weights`.

    Args:
        config: Configuration to check; nothing is loaded.

    Yields:
        One line for each finding.
    """
    if not config.weight_bucket_mib > 0:
        yield f"weights.bucket_mib={config.weight_bucket_mib} must be positive"
    if config.weight_sync_timeout_s is not None and not config.weight_sync_timeout_s > 0:
        yield (
            f"weights.timeout_s={config.weight_sync_timeout_s} must be positive, or null for no "
            "limit"
        )

    if "weight_transfer_config" in config.engine_kwargs:
        yield "rollout.engine_kwargs.weight_transfer_config is set by weights.transfer: use that"
    way = config.weight_transfer
    # RLlib makes evaluation's configuration of training's, with no EnvRunners.
    if way in ("auto", "object_store") or config.in_evaluation:
        return
    if config.engine != "vllm":
        yield (
            f"weights.transfer={way!r} needs rollout.engine=vllm, and that is {config.engine!r}: "
            f"{_ELSE}"
        )
        return

    if config.num_env_runners == 0:
        yield (
            f"weights.transfer={way!r} goes from process to process, and "
            "env_runners.num_env_runners=0 puts the engine into the driver's: set that to 1 or "
            f"more, or {_ELSE}"
        )
    gpus = (
        f"learners.num_gpus_per_learner={config.num_gpus_per_learner} and "
        f"env_runners.num_gpus_per_env_runner={config.num_gpus_per_env_runner}"
    )
    if way == "nccl" and not _has_gpus_of_its_own(config):
        yield (
            f"weights.transfer='nccl' needs a whole GPU for each Learner and for each engine, and "
            f"there are {gpus}: {_ELSE}"
        )
    if way == "ipc" and not _share_gpus(config):
        yield (
            "weights.transfer='ipc' needs a GPU that Learner and engine share, such as 0.5 each, "
            f"and there are {gpus}: {_ELSE}"
        )


def _has_gpus_of_its_own(config: DAPOConfig) -> bool:
    """Whether Learners and engines have whole GPUs: Ray gives nobody else a whole one."""
    return config.num_gpus_per_learner >= 1 and config.num_gpus_per_env_runner >= 1


def _share_gpus(config: DAPOConfig) -> bool:
    """Whether a Learner and an engine fit onto one GPU together."""
    learner, engine = config.num_gpus_per_learner, config.num_gpus_per_env_runner
    return 0 < learner < 1 and 0 < engine < 1 and learner + engine <= 1
