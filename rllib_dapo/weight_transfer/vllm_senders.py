"""The Learners' ends of the ways to vLLM's workers: vLLM's own classes, and ours for gloo."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rllib_dapo.learner.collectives import rank
from rllib_dapo.learner.weight_source import LearnerWeights
from rllib_dapo.rollout.vllm_environment import vllm_environment

os.environ.update(vllm_environment())

from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.base import TrainerInitInfo
from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from rllib_dapo.weight_transfer.wire.gloo_engine import GlooTrainerInitInfo

if TYPE_CHECKING:
    from rllib_dapo.learner.learner import DAPOTorchLearner

# Of NCCL's buckets, one is filled while another one is sent.
NCCL_BUFFERS = 2


class SilentClient:
    """Asks the engines nothing; the form of vLLM's `VLLMWeightSyncClient`.

    The driver asks them itself, at the same moment as the Learners. So it holds both sides' answers
    and can tell which of them has failed.
    """

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Leaves it to the driver."""

    def start_weight_update(self) -> None:
        """Leaves it to the driver."""

    def update_weights(self, update_info: Any) -> None:
        """Leaves it to the driver."""

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Leaves it to the driver."""


def trainer_info(
    way: str, *, rank: int, bucket_bytes: int, meeting: Mapping[str, Any]
) -> TrainerInitInfo:
    """What a Learner tells vLLM's interface.

    Args:
        way: `"gloo"`, `"nccl"` or `"ipc"`.
        rank: The Learner's rank.
        bucket_bytes: Largest size of a bucket.
        meeting: Where the group meets, and how many it has; nothing for IPC, which has none.
    """
    if way == "gloo":
        return GlooTrainerInitInfo(rank=rank, bucket_bytes=bucket_bytes, **meeting)
    packed = {"packed": True, "packed_buffer_size_bytes": bucket_bytes}
    if way == "ipc":
        return IPCTrainerInitInfo(rank=rank, **packed)
    return NCCLTrainerInitInfo(rank=rank, packed_num_buffers=NCCL_BUFFERS, **packed, **meeting)


def open_sender(
    learner: DAPOTorchLearner,
    way: str,
    *,
    bucket_bytes: int,
    meeting: Mapping[str, Any],
    client: Any = None,
) -> dict[str, Any]:
    """Connects a Learner with the engines; all Learners are asked at the same time.

    Args:
        learner: The Learner.
        way: `"gloo"`, `"nccl"` or `"ipc"`.
        bucket_bytes: Largest size of a bucket.
        meeting: As for `trainer_info`.
        client: Asks the engines, in the form of vLLM's `VLLMWeightSyncClient`; by default nobody
            does from here.

    Returns:
        The weights that will come, as the engines' `receive_transfer` wants to know; nothing on any
        Learner but the first.
    """
    if learner.weight_sender is not None:
        learner.weight_sender.shutdown()
        learner.weight_sender = None

    source = LearnerWeights(
        # Each GPU's engine reads from the Learner on that GPU.
        partial(learner.engine_weights, everywhere=way == "ipc"),
        dtype=learner.policy_module.settings.dtype,
        converted=way != "gloo",
    )
    # Before the engines are met: it may take long, and they would wait.
    metas = source.metadata()
    learner.weight_sender = WeightTransferTrainerFactory.trainer_init(
        trainer_info(way, rank=rank(), bucket_bytes=bucket_bytes, meeting=meeting),
        client=client or SilentClient(),
        source=source,
    )
    return {
        "names": [meta.name for meta in metas],
        "dtype_names": [str(meta.dtype).removeprefix("torch.") for meta in metas],
        "shapes": [list(meta.shape) for meta in metas],
    }


def send(learner: DAPOTorchLearner) -> None:
    """Sends a Learner's weights; all Learners are asked at the same time.

    Raises:
        RuntimeError: If it has no connection, or another side fails.
    """
    sender = learner.weight_sender
    if sender is None:
        raise RuntimeError("this Learner is connected with no engine")
    sender.send_weights()
