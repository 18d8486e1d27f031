"""From the settings of section `weights` to the way that weights take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rllib_dapo.weight_transfer.transfer import TransferWay

if TYPE_CHECKING:
    from ray.rllib.core.learner.learner_group import LearnerGroup
    from ray.rllib.env.env_runner_group import EnvRunnerGroup

    from rllib_dapo.config.dapo_config import DAPOConfig

MIB = 2**20


def make_transfer_way(
    way: str,
    learner_group: LearnerGroup,
    env_runner_group: EnvRunnerGroup,
    config: DAPOConfig,
) -> TransferWay:
    """Makes a way; nothing is connected yet.

    Args:
        way: `"object_store"`, `"gloo"`, `"nccl"` or `"ipc"`.
        learner_group: The Learners.
        env_runner_group: The EnvRunners with the engines.
        config: Has the size of a bucket, the longest time that a transfer may take, and whether a
            run goes on where an EnvRunner dies.
    """
    options: dict[str, Any] = {
        "bucket_bytes": max(1, int(config.weight_bucket_mib * MIB)),
        "timeout_seconds": config.weight_sync_timeout_s,
        "tolerates_deaths": config.restart_failed_env_runners,
    }
    if config.lora is not None:
        from rllib_dapo.weight_transfer.adapter_way import AdapterWay

        return AdapterWay(learner_group, env_runner_group, **options)
    if way == "object_store":
        from rllib_dapo.weight_transfer.object_store import ObjectStoreWay

        return ObjectStoreWay(learner_group, env_runner_group, **options)
    if way == "ipc":
        from rllib_dapo.weight_transfer.shared_memory import SharedMemoryWay

        return SharedMemoryWay(learner_group, env_runner_group, **options)

    from rllib_dapo.weight_transfer.broadcast import BroadcastWay

    return BroadcastWay(learner_group, env_runner_group, way=way, **options)
