"""What Learners tell each other: every Learner must make the same calls in the same order."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def world_size() -> int:
    """Number of Learners that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This Learner's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def gather(value: T) -> list[T]:
    """Gives every Learner the values of all Learners, by rank.

    Args:
        value: This Learner's value; it must be picklable.
    """
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]
