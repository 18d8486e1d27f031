"""Weights on their way to the engines: as arrays, and in pieces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rllib_dapo.weight_transfer.wire.weight_pieces import cut_into_pieces, to_numpy, to_tensors

pytestmark = pytest.mark.usefixtures("one_thread")


def test_bfloat16_crosses_as_its_bits() -> None:
    exact = torch.randn(50, generator=torch.Generator().manual_seed(0))
    array = to_numpy(exact, torch.bfloat16)
    assert array.dtype == np.uint16
    ((name, tensor),) = to_tensors([("w", array)])
    assert name == "w"
    assert torch.equal(tensor, exact.bfloat16())
    assert not torch.equal(tensor.float(), exact)


def test_arrays_are_copies_and_whole_numbers_stay_whole() -> None:
    weight, steps = torch.ones(3), torch.tensor([7])
    array = to_numpy(weight, torch.float32)
    weight += 1
    assert array.tolist() == [1, 1, 1]
    assert to_numpy(steps, torch.bfloat16).dtype == np.int64


def test_read_only_arrays_become_tensors_of_their_own() -> None:
    array = np.ones(3, dtype=np.float32)
    array.flags.writeable = False
    ((_, tensor),) = to_tensors([("w", array)])
    tensor += 1
    assert array.tolist() == [1, 1, 1]


def test_pieces_hold_every_weight_once_in_order_and_end_where_they_are_full() -> None:
    weights = {
        name: torch.full((size,), float(size))
        for name, size in {"a": 2, "b": 1, "c": 9, "d": 1}.items()
    }
    cut = list(cut_into_pieces(weights.items(), dtype=torch.float32, max_bytes=12))

    assert [[name for name, _ in piece] for piece in cut] == [["a", "b"], ["c"], ["d"]]
    assert all(
        np.array_equal(array, weights[name].numpy()) for piece in cut for name, array in piece
    )

    halves = list(cut_into_pieces(weights.items(), dtype=torch.bfloat16, max_bytes=12))
    assert [[name for name, _ in piece] for piece in halves] == [["a", "b", "c"], ["d"]]
    assert list(cut_into_pieces([], dtype=torch.float32)) == []


def test_pieces_are_made_one_at_a_time() -> None:
    """No process is to hold a second copy of all weights."""
    made = []
    weights = ((str(i), made.append(i) or torch.ones(4)) for i in range(10))
    cut = cut_into_pieces(weights, dtype=torch.float32, max_bytes=16)
    next(cut)
    assert made == [0]
