"""The processes of an engine that does not start end with it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager

# vLLM's workers end on request within a second; one that loads weights may not hear it.
PATIENCE_SECONDS = 5.0


@contextmanager
def workers_end_with_a_failure() -> Iterator[None]:
    """Ends the processes that were started inside this context where it ends by an exception.

    vLLM leaves its workers to the garbage collector, and an exception keeps alive what it has come
    through, as long as anybody holds it.
    """
    before = set(multiprocessing.active_children())
    try:
        yield
    except BaseException:
        left = set(multiprocessing.active_children()) - before
        for process in left:
            process.terminate()
        for process in left:
            process.join(PATIENCE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        raise
