"""From the settings of section `weights` to the way that weights take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rllib_dapo.weight_transfer.transfer import TransferWay

if TYPE_CHECKING:
    from ray.rllib.core.learner.learner_group import LearnerGroup
    from ray.rllib.env.env_runner_group import EnvRunnerGroup

MIB = 2**20


def make_transfer_way(
    way: str,
    learner_group: LearnerGroup,
    env_runner_group: EnvRunnerGroup,
    *,
    bucket_mib: float,
    timeout_seconds: float | None,
    tolerates_deaths: bool,
) -> TransferWay:
    """Makes a way; nothing is connected yet.

    Args:
        way: `"object_store"`, `"gloo"`, `"nccl"` or `"ipc"`.
        learner_group: The Learners.
        env_runner_group: The EnvRunners with the engines.
        bucket_mib: The setting `weights.bucket_mib`.
        timeout_seconds: The setting `weights.timeout_s`.
        tolerates_deaths: Whether a run goes on where an EnvRunner dies.
    """
    options: dict[str, Any] = {
        "bucket_bytes": max(1, int(bucket_mib * MIB)),
        "timeout_seconds": timeout_seconds,
        "tolerates_deaths": tolerates_deaths,
    }
    if way == "object_store":
        from rllib_dapo.weight_transfer.object_store import ObjectStoreWay

        return ObjectStoreWay(learner_group, env_runner_group, **options)
    if way == "ipc":
        from rllib_dapo.weight_transfer.shared_memory import SharedMemoryWay

        return SharedMemoryWay(learner_group, env_runner_group, **options)

    from rllib_dapo.weight_transfer.broadcast import BroadcastWay

    return BroadcastWay(learner_group, env_runner_group, way=way, **options)
