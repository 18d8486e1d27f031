"""Both ends of the way over gloo, as threads of this process: bits, buckets, faults."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from rllib_dapo.learner.weight_source import LearnerWeights
from rllib_dapo.weight_transfer.wire.buckets import plan_buckets
from rllib_dapo.weight_transfer.wire.buffer_pool import BufferPool
from rllib_dapo.weight_transfer.wire.transfer_group import PeerLostError, TransferGroup

pytest.importorskip("vllm")
# Only where vLLM is there.
from rllib_dapo.weight_transfer.vllm_senders import SilentClient, trainer_info
from rllib_dapo.weight_transfer.wire import gloo_engine

pytestmark = pytest.mark.usefixtures("one_thread")
HOST = "127.0.0.1"


def open_sender(members: Any, source: LearnerWeights, *, num_engines: int, bucket: int) -> Any:
    meeting = {
        "host": HOST,
        "port": members.place.port,
        "world_size": 1 + num_engines,
        "timeout_seconds": 60.0,
    }
    return gloo_engine.GlooTrainerWeightTransferEngine.trainer_init(
        trainer_info("gloo", rank=0, bucket_bytes=bucket, meeting=meeting),
        client=SilentClient(),
        source=source,
    )


def connect(
    members: Any, source: LearnerWeights, *, num_engines: int, bucket: int
) -> tuple[Any, list[TransferGroup]]:
    sender = members.start(
        partial(open_sender, members, source, num_engines=num_engines, bucket=bucket)
    )
    joining = [
        members.start(
            partial(
                TransferGroup,
                host=HOST,
                port=members.place.port,
                rank=rank,
                world_size=1 + num_engines,
                timeout_seconds=60.0,
            )
        )
        for rank in range(1, 1 + num_engines)
    ]
    members.groups = [future.result() for future in joining]
    return sender.result(), members.groups


def source_of(weights: dict[str, Tensor], dtype: torch.dtype) -> LearnerWeights:
    return LearnerWeights(lambda: iter(weights.items()), dtype=dtype, converted=False)


def received(group: TransferGroup, source: LearnerWeights, bucket: int) -> dict[str, Tensor]:
    buckets = plan_buckets(source.metadata(), max_bytes=bucket)
    return {
        name: tensor.clone() for name, tensor in gloo_engine._received(group, buckets, BufferPool())
    }


@pytest.mark.parametrize("bucket", [1, 600, 1 << 20])
@pytest.mark.parametrize("num_engines", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_engine_gets_the_bits_of_every_weight(
    members: Any, weights: dict[str, Tensor], dtype: torch.dtype, num_engines: int, bucket: int
) -> None:
    """Whatever the buckets: one for all, or each smaller than the largest weight."""
    source = source_of(weights, dtype)
    sender, groups = connect(members, source, num_engines=num_engines, bucket=bucket)
    for _ in range(2):  # the group stays for the next transfer
        loading = [members.start(received, group, source, bucket) for group in groups]
        sender.send_weights()
        for future in loading:
            found = future.result(timeout=60)
            assert list(found) == list(weights)
            for name, tensor in weights.items():
                expected = tensor.to(dtype) if tensor.is_floating_point() else tensor
                assert torch.equal(found[name], expected)
                assert found[name].dtype == expected.dtype
    sender.shutdown()


def test_the_next_bucket_is_gathered_while_the_last_one_is_sent(members: Any) -> None:
    """The engine takes nothing yet, and the Learner has gathered the second bucket all the same."""
    gathered: list[str] = []

    def gather() -> Iterator[tuple[str, Tensor]]:
        for name in "abcd":
            gathered.append(name)
            yield name, torch.full((1 << 20,), float(ord(name)))

    source = LearnerWeights(gather, dtype=torch.float32, converted=False)
    bucket = 4 << 20
    sender, (group,) = connect(members, source, num_engines=1, bucket=bucket)
    source.metadata()
    gathered.clear()

    sending = members.start(sender.send_weights)
    while len(gathered) < 2:
        time.sleep(0.01)
    assert not sending.done()
    found = received(group, source, bucket)
    sending.result(timeout=60)
    assert gathered == list("abcd")
    assert [int(tensor[0]) for tensor in found.values()] == [ord(name) for name in "abcd"]
    sender.shutdown()


def test_a_learner_whose_sending_fails_still_takes_part_in_gathering_to_the_end(
    members: Any, weights: dict[str, Tensor]
) -> None:
    """The other Learners are in the middle of it, and would wait for it without end."""
    taken: list[str] = []

    def gather() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in weights.items():
            taken.append(name)
            yield name, tensor

    source = LearnerWeights(gather, dtype=torch.float32, converted=False)
    sender, _ = connect(members, source, num_engines=1, bucket=1)
    source.metadata()
    taken.clear()

    sending = members.start(sender.send_weights)
    members.place.report_fault("EnvRunner 1: its process has ended")
    with pytest.raises(PeerLostError, match="EnvRunner 1: its process has ended"):
        sending.result(timeout=60)
    assert taken == list(weights)


def test_a_learner_that_is_not_the_first_gathers_and_sends_nothing(
    weights: dict[str, Tensor],
) -> None:
    rounds = 0

    def gather() -> Iterator[tuple[str, Tensor]]:
        nonlocal rounds
        rounds += 1
        yield from ()

    source = LearnerWeights(gather, dtype=torch.float32, converted=False)
    meeting = {"host": HOST, "port": 1, "world_size": 2, "timeout_seconds": 1.0}
    sender = gloo_engine.GlooTrainerWeightTransferEngine.trainer_init(
        trainer_info("gloo", rank=1, bucket_bytes=9, meeting=meeting),
        client=SilentClient(),
        source=source,
    )
    assert source.metadata() == []
    sender.send_weights()
    assert rounds == 2


def test_both_ends_are_known_to_vllm_by_name() -> None:
    from vllm.distributed.weight_transfer import (
        WeightTransferEngineFactory,
        WeightTransferTrainerFactory,
    )

    engine = WeightTransferEngineFactory._registry["gloo"]()
    assert engine is gloo_engine.GlooWeightTransferEngine
    trainer = WeightTransferTrainerFactory._registry["gloo"]()
    assert trainer is gloo_engine.GlooTrainerWeightTransferEngine
