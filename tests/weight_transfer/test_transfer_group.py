"""A group over gloo that can be given up: a fault frees everybody who waits."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from rllib_dapo.weight_transfer.wire.transfer_group import PEER_LOST, PeerLostError, TransferGroup

pytestmark = pytest.mark.usefixtures("one_thread")


def receive(group: TransferGroup, size: int) -> torch.Tensor:
    buffer = torch.zeros(size, dtype=torch.uint8)
    group.wait(group.broadcast(buffer))
    return buffer


@pytest.mark.parametrize("world_size", [2, 3])
def test_what_the_first_member_sends_comes_to_all(members: Any, world_size: int) -> None:
    sender, *receivers = members.join(world_size)
    sent = [torch.randint(0, 256, (size,), dtype=torch.uint8) for size in (1, 1000, 3)]
    received = [members.start(lambda g=g: [receive(g, len(b)) for b in sent]) for g in receivers]
    for buffer in sent:
        sender.wait(sender.broadcast(buffer))
    for future in received:
        assert all(map(torch.equal, future.result(), sent))


def test_whoever_waits_is_freed_when_a_fault_is_reported(members: Any) -> None:
    _, *receivers = members.join(3)
    waiting = [members.start(receive, group, 8) for group in receivers]
    members.place.report_fault("the Learner: out of memory")
    for future in waiting:
        with pytest.raises(PeerLostError, match=f"^{PEER_LOST}: the Learner: out of memory$"):
            future.result(timeout=60)


def test_a_member_that_does_not_come_is_waited_for_no_longer_than_allowed(members: Any) -> None:
    with pytest.raises(PeerLostError) as caught:
        TransferGroup(
            host="127.0.0.1", port=members.place.port, rank=1, world_size=2, timeout_seconds=1
        )
    assert "\n" not in str(caught.value)


def test_each_member_says_what_it_is_doing_and_that_it_is_alive(members: Any) -> None:
    assert members.place.doing(0) == (0, "")
    _, receiver = members.join(2)
    assert members.place.doing(1)[1] == "idle"

    receiver.note("waiting for bucket 1 of 2")
    future = members.start(receive, receiver, 8)
    first, words = members.place.doing(1)
    assert words == "waiting for bucket 1 of 2"
    while members.place.doing(1)[0] == first:  # grows while it waits
        time.sleep(0.01)
    members.place.report_fault("enough")
    with pytest.raises(PeerLostError):
        future.result(timeout=60)


def test_a_closed_group_sends_nothing(members: Any) -> None:
    sender, _ = members.join(2)
    sender.close()
    with pytest.raises(PeerLostError):
        sender.broadcast(torch.zeros(1, dtype=torch.uint8))
