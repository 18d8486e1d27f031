"""Checksums of weights: exact on bits, and the sum of the parts is the whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rllib_dapo.weight_checksums import MODULUS, as_matrix, checksum, choose_block, to_numbers

pytestmark = pytest.mark.usefixtures("one_thread")


def number(values: Tensor, *, first_row: int = 0, first_column: int = 0) -> int:
    (found,) = to_numbers([checksum(values, first_row=first_row, first_column=first_column)])
    return found


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@given(row=st.integers(0, 12), column=st.integers(0, 7))
def test_parts_add_up_to_the_whole_wherever_it_is_cut(row: int, column: int) -> None:
    whole = random(12, 7)
    parts = [
        number(whole[a:b, c:d], first_row=a, first_column=c)
        for a, b in ((0, row), (row, 12))
        for c, d in ((0, column), (column, 7))
    ]
    assert sum(parts) % MODULUS == number(whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_last_bit_of_any_number_counts(dtype: torch.dtype) -> None:
    weight = random(4, 3, dtype=dtype)
    found = {number(weight)}
    for place in range(weight.numel()):
        other = weight.clone().flatten()
        other[place] = torch.nextafter(other[place], torch.tensor(9.0, dtype=dtype))
        found.add(number(other.view(4, 3)))
    assert len(found) == 1 + weight.numel()


def test_numbers_that_change_places_change_it() -> None:
    weight = random(6, 6)
    assert number(weight) != number(weight.t())
    assert number(weight) != number(weight[[1, 0, 2, 3, 4, 5]])
    assert number(weight) != number(weight.flip(1))
    assert number(weight) != number(weight, first_row=1)


def test_zeros_count_for_nothing_with_either_sign_and_so_do_subnormal_numbers() -> None:
    weight = random(4, 4)
    weight[1, 2] = 0.0
    around = torch.zeros(6, 4)
    around[1:5] = weight
    negative, subnormal = weight.clone(), weight.clone()
    negative[1, 2] = -0.0
    subnormal[1, 2] = 1e-40
    assert number(around, first_row=3) == number(weight, first_row=4)
    assert number(negative) == number(subnormal) == number(weight)


@pytest.mark.parametrize(("columns", "elements"), [(10, 28), (16, 22), (3, 7 * 16), (1, 9), (5, 1)])
def test_every_column_has_its_turn(columns: int, elements: int) -> None:
    blocks = [
        choose_block("w", (7, columns), elements=elements, turn=turn) for turn in range(columns)
    ]
    seen = {column for block in blocks for column in range(block.start, block.stop)}
    assert seen == set(range(columns))
    assert blocks[0].numel == min(7 * columns, 7 * -(-elements // 7))


def test_a_vector_is_taken_whole_and_further_axes_are_columns() -> None:
    assert choose_block("b", (9,), elements=4, turn=5).numel == 9
    assert as_matrix(torch.zeros(9)).shape == (9, 1)
    assert as_matrix(torch.zeros(2, 3, 4)).shape == (2, 12)
    assert choose_block("c", (2, 3, 4), elements=24, turn=7).numel == 24
