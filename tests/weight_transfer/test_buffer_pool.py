"""A buffer is lent again when the last view of it is gone, and not before."""

from __future__ import annotations

import gc

import pytest
import torch

from rllib_dapo.weight_transfer.wire.buffer_pool import BufferPool

pytestmark = pytest.mark.usefixtures("one_thread")


def test_memory_is_used_again_once_nobody_looks_at_it() -> None:
    pool = BufferPool()
    first = pool.take(64, at_least=128)
    place = first.data_ptr()
    view = first[8:16].view(torch.float32)
    view.fill_(3)

    del first
    gc.collect()
    other = pool.take(64)
    assert other.data_ptr() != place  # the view is still there
    other.fill_(0)
    assert view.tolist() == [3, 3]

    del view
    gc.collect()
    again = pool.take(100)  # fits, as its memory is larger than what was asked for first
    assert again.data_ptr() == place
    assert again.numel() == 100


def test_a_buffer_that_is_too_small_stays_where_it_is() -> None:
    pool = BufferPool()
    small = pool.take(8).data_ptr()
    assert pool.take(16).numel() == 16
    assert pool.take(8).numel() == 8
    assert pool.take(0).numel() == 0
    assert small


def test_two_loans_never_share_memory() -> None:
    pool = BufferPool()
    lent = [pool.take(32) for _ in range(4)]
    assert len({buffer.data_ptr() for buffer in lent}) == 4
