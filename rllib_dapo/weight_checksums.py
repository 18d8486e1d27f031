"""Checksums of weights that are exact on bits, and add up over the parts that a tensor is cut into.

A Learner has whole tensors, or shards of them under ZeRO-3; a worker of an engine has rows or
columns, fused with those of other tensors. Each takes the checksum of what it has, and the sums are
those of the whole. What is looked at is a block of columns, which any layout gives cheaply, and
which moves on with every version of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

# The integer type for weights of so many bytes each.
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

# Checksums are taken modulo 2**64, as integers of a tensor are added and multiplied.
MODULUS = 1 << 64

# Columns are counted from here, so that a transposed matrix has another checksum.
COLUMNS = 1 << 40


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightBlock:
    """Neighboring columns of a weight, in the form `[rows, columns]` of `as_matrix`.

    Attributes:
        name: The weight's name in a Hugging Face checkpoint.
        rows: Number of rows, all of which belong to the block.
        start: First column of the block.
        stop: Column after its last one.
    """

    name: str
    rows: int
    start: int
    stop: int

    @property
    def numel(self) -> int:
        """Number of its elements."""
        return self.rows * (self.stop - self.start)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockPart:
    """The part of a block that one process holds, and its checksum.

    Attributes:
        name: The block's name.
        holder: What holds it there: a weight may be held twice, as a tied one is.
        rows: First row, and the row after the last one.
        columns: First column, and the column after the last one.
        checksum: Checksum of the part; those of the parts of a block add up to the block's.
    """

    name: str
    holder: str
    rows: tuple[int, int]
    columns: tuple[int, int]
    checksum: int

    @property
    def numel(self) -> int:
        """Number of its elements."""
        return (self.rows[1] - self.rows[0]) * (self.columns[1] - self.columns[0])


def as_matrix(weight: Tensor) -> Tensor:
    """A weight as `[rows, columns]`: a vector is one column, and further axes are columns, too."""
    return weight.flatten(1) if weight.dim() > 1 else weight.reshape(-1, 1)


def choose_block(name: str, shape: Sequence[int], *, elements: int, turn: int) -> WeightBlock:
    """The columns of a weight whose turn it is; a vector is always taken whole.

    Args:
        name: The weight's name in a checkpoint.
        shape: Its shape.
        elements: The fewest elements to look at, where there are so many.
        turn: The version of the weights: neighbouring turns look at neighbouring columns, and all
            columns have had their turn in the end.
    """
    rows = shape[0] if shape else 1
    columns = torch.Size(shape[1:]).numel()
    width = min(columns, -(-elements // rows))
    turns = -(-columns // width)
    start = turn % turns * width
    return WeightBlock(name=name, rows=rows, start=start, stop=min(start + width, columns))


def checksum(values: Tensor, *, first_row: int = 0, first_column: int = 0) -> Tensor:
    """Sum over `bits(values[i, j]) * a(first_row + i) * b(first_column + j)`, as an integer tensor.

    Numbers too small for a normal one, and -0, count as 0: kernels for products may flush them. So
    zeros may be added around a part without a change.

    Args:
        values: `[n, m]` part of a matrix.
        first_row: Row of the matrix that the part begins with.
        first_column: Column of the matrix that the part begins with.

    Returns:
        A number modulo `MODULUS`, as a tensor without axes: whoever has many fetches them together.
    """
    tiny = torch.finfo(values.dtype).tiny
    values = values.detach().masked_fill(values.detach().abs() < tiny, 0).contiguous()
    bits = values.view(BITS[values.itemsize]).to(torch.int64)

    rows = _multipliers(first_row, len(values), values.device)
    columns = _multipliers(COLUMNS + first_column, values.shape[1], values.device)
    return ((bits * columns).sum(dim=1) * rows).sum()


def to_numbers(checksums: Sequence[Tensor]) -> list[int]:
    """What `checksum` has given, as numbers from 0 to `MODULUS`."""
    return [value % MODULUS for value in torch.stack(list(checksums)).tolist()] if checksums else []


@lru_cache(maxsize=32)  # layers are alike, and making them would cost more than what they are for
def _multipliers(start: int, count: int, device: torch.device) -> Tensor:
    """`[count]` odd numbers that depend on a place alone and have nothing else in common."""
    x = torch.arange(start + 1, start + 1 + count, dtype=torch.int64, device=device)
    for factor, shift in ((-0x61C8864680B583EB, 30), (-0x40A7B892E31B1A47, 27)):  # SplitMix64's
        x = x * factor
        x = x ^ (x >> shift)
    return x | 1
