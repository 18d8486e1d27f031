"""What is told to vLLM's own interface for NCCL and CUDA IPC fits it, which needs no GPU to see."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rllib_dapo.weight_transfer.broadcast import receiver_info
from rllib_dapo.weight_transfer.faults import SideError
from rllib_dapo.weight_transfer.shared_memory import EngineActors, refuse_other_gpus

pytest.importorskip("vllm")
# Only where vLLM is there.
from rllib_dapo.weight_transfer.vllm_senders import SilentClient, trainer_info

MEETING = {"master_address": "10.0.0.1", "master_port": 4000, "world_size": 5}
CONTROL = (
    "init_weight_transfer_engine",
    "start_weight_update",
    "update_weights",
    "finish_weight_update",
)


def test_learner_and_workers_are_told_the_same_of_nccl() -> None:
    from vllm.distributed.weight_transfer.nccl_common import NCCLWeightTransferInitInfo
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

    learner: Any = trainer_info("nccl", rank=0, bucket_bytes=1 << 20, meeting=MEETING)
    worker = NCCLWeightTransferInitInfo(**receiver_info("nccl", MEETING, 3, bucket_bytes=1 << 20))
    assert isinstance(learner, NCCLTrainerInitInfo)
    assert learner.is_sender
    assert worker.rank_offset == 3
    common = (
        "master_address",
        "master_port",
        "world_size",
        "packed",
        "packed_buffer_size_bytes",
        "packed_num_buffers",
    )
    for name in common:
        assert getattr(learner, name) == getattr(worker, name)
    assert worker.packed
    assert worker.packed_buffer_size_bytes == 1 << 20


def test_a_learner_is_told_of_ipc_what_workers_can_read() -> None:
    from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

    learner: Any = trainer_info("ipc", rank=1, bucket_bytes=99, meeting={})
    assert isinstance(learner, IPCTrainerInitInfo)
    assert not learner.is_sender
    assert (learner.packed, learner.packed_buffer_size_bytes) == (True, 99)


def test_what_is_announced_has_the_form_of_vllms_message() -> None:
    from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferUpdateInfo

    from rllib_dapo.learner.weight_source import LearnerWeights

    weights = {"a": torch.ones(2, 3), "b": torch.arange(4)}
    source = LearnerWeights(lambda: iter(weights.items()), dtype=torch.bfloat16, converted=True)
    metas = source.metadata()
    NCCLWeightTransferUpdateInfo(
        names=[meta.name for meta in metas],
        dtype_names=[str(meta.dtype).removeprefix("torch.") for meta in metas],
        shapes=[list(meta.shape) for meta in metas],
    )
    # vLLM compares both, name by name.
    for meta, (name, tensor) in zip(metas, source, strict=True):
        assert (meta.name, meta.dtype, meta.shape) == (name, tensor.dtype, tuple(tensor.shape))


@pytest.mark.parametrize("client", [SilentClient(), EngineActors({}, None)])
def test_clients_have_vllms_form(client: object) -> None:
    from vllm.distributed.weight_transfer import VLLMWeightSyncClient

    assert all(hasattr(VLLMWeightSyncClient, name) for name in CONTROL)
    for name, argument in zip(CONTROL, ({}, None, {}, "3"), strict=True):
        method = getattr(client, name)
        method() if argument is None else method(argument)


@pytest.mark.parametrize(
    ("engine", "said"),
    [(("a", "GPU-1"), None), (("a", "GPU-2"), "GPU"), (("b", "GPU-1"), "machine")],
)
def test_an_engine_that_shares_no_gpu_with_a_learner_is_refused(
    engine: tuple[str, str], said: str | None
) -> None:
    learners = [("a", "GPU-0"), ("a", "GPU-1")]
    if said is None:
        refuse_other_gpus(learners, {1: engine})
        return
    with pytest.raises(SideError, match=f"EnvRunner 2: no Learner is on its {said}") as caught:
        refuse_other_gpus(learners, {1: ("a", "GPU-0"), 2: engine})
    assert "set weights.transfer to object_store" in str(caught.value)
