"""The number of threads that a process computes with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from rllib_dapo.threads import one_thread


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_the_threads_that_rest_meanwhile_come_back_after_an_error_too() -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3

    with pytest.raises(RuntimeError, match="in between"), one_thread():
        raise RuntimeError("in between")
    assert torch.get_num_threads() == 3
