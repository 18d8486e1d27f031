"""The number of CPU threads that a process computes with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def available_cores() -> int:
    """Number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_num_threads(num_threads: int | str, *, shared_by: int = 1) -> int:
    """Sets torch's threads in this process.

    Ray starts an actor with as many threads as it asked for CPUs, which is a scheduling weight.
    Sampling and training take turns here, so each may use the cores that the other leaves idle.

    Args:
        num_threads: The setting `language_model.num_threads`: a number, or `"auto"` for an equal
            share of all cores.
        shared_by: Number of processes of this kind that run at the same time.

    Returns:
        The number of threads.
    """
    count = max(1, available_cores() // shared_by) if num_threads == "auto" else int(num_threads)
    os.environ["OMP_NUM_THREADS"] = str(count)
    torch.set_num_threads(count)
    return count


@contextmanager
def one_thread() -> Iterator[None]:
    """Has torch compute with one thread of this process meanwhile, where other processes compute.

    Threads of one operation wait for each other by spinning: where they are more than the cores
    that are left, what they wait for gets no core.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
