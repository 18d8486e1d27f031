"""Members of a gloo group as threads of this process, and weights that a Learner could hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from rllib_dapo.weight_transfer.wire.transfer_group import MeetingPlace, TransferGroup

HOST = "127.0.0.1"


def _weights() -> dict[str, Tensor]:
    """Several types and shapes; one weight is larger than all others together."""
    generator = torch.Generator().manual_seed(0)
    named: dict[str, Tensor] = {
        f"layer.{i}.weight": torch.randn(7, 3 + i, generator=generator) for i in range(6)
    }
    named["large"] = torch.randn(200, 30, generator=generator)
    named["counts"] = torch.arange(5)
    named["scalar"] = torch.tensor(0.1)
    return named


@pytest.fixture(scope="session")
def weights() -> dict[str, Tensor]:
    return _weights()


class Members:
    """A meeting place, and the members that have come, each on a thread of its own."""

    def __init__(self) -> None:
        self.place = MeetingPlace(HOST)
        self._threads = ThreadPoolExecutor(max_workers=8)
        self.groups: list[TransferGroup] = []

    def start(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self._threads.submit(work, *arguments)

    def join(self, world_size: int, *, timeout_seconds: float | None = 60) -> list[TransferGroup]:
        """All members of a group."""
        make = partial(
            TransferGroup,
            host=HOST,
            port=self.place.port,
            world_size=world_size,
            timeout_seconds=timeout_seconds,
        )
        joining = [self.start(partial(make, rank=rank)) for rank in range(world_size)]
        self.groups = [future.result() for future in joining]
        return self.groups

    def leave(self) -> None:
        self.place.report_fault("the test is over")
        for group in self.groups:
            group.close()
        self._threads.shutdown(wait=True)


@pytest.fixture
def members() -> Iterator[Members]:
    made = Members()
    yield made
    made.leave()
