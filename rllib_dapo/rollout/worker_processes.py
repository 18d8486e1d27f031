"""The workers of an engine that does not start end with it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from vllm.v1.executor.abstract import Executor


@contextmanager
def workers_end_with_a_failure() -> Iterator[None]:
    """Ends the workers of engines that are made inside this context, if it ends by an exception.

    vLLM leaves them to the garbage collector, and an exception keeps alive what it has come
    through, for as long as anybody holds it. An actor that has failed would wait for them: Ray ends
    no process that still waits for tasks of its own.
    """
    before = {id(executor) for executor in _executors()}
    try:
        yield
    except BaseException:
        for executor in _executors():
            if id(executor) not in before:
                executor.shutdown()
        raise


def _executors() -> list[Executor]:
    """VLLM's executors in this process, of which vLLM itself keeps no list."""
    return [thing for thing in gc.get_objects() if issubclass(type(thing), Executor)]
