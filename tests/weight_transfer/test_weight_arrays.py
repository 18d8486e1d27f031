"""Weights as arrays: the same bits, in memory of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rllib_dapo.weight_transfer.wire.weight_arrays import to_numpy, to_tensors

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
