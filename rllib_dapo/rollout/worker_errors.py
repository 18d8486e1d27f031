"""Errors of an engine's worker processes, told to the process that started them.

vLLM prints a worker's error in the worker's own log, and tells the process that waits for the
worker only that there was one ("See stack trace for root cause"). So each worker also writes its
errors into a folder that the starting process looks into.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rllib_dapo.findings import one_line

# Names the folder; workers inherit it, or are given it with the rest of the environment.
FOLDER_VARIABLE = "RLLIB_DAPO_ENGINE_ERRORS"
_SUFFIX = ".error"


class _ErrorRecorder(logging.Handler):
    """Writes the errors that are logged in this process, a file each."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the exception of a record, if the folder is still there and the record has one."""
        error = record.exc_info[1] if record.exc_info else None
        folder = os.environ.get(FOLDER_VARIABLE)
        if error is None or not folder or not Path(folder).is_dir():
            return

        # Written under another name first, so that nobody reads half of it.
        name = f"{record.created:017.6f}-{os.getpid()}"
        part = Path(folder, f"{name}.part")
        part.write_text(f"{type(error).__name__}: {one_line(error)}", encoding="utf-8")
        part.rename(Path(folder, name + _SUFFIX))


def record_worker_errors() -> None:
    """Has this process write what vLLM logs as errors, where a starting process asked for it."""
    logger = logging.getLogger("vllm")
    is_there = any(isinstance(handler, _ErrorRecorder) for handler in logger.handlers)
    if FOLDER_VARIABLE in os.environ and not is_there:
        logger.addHandler(_ErrorRecorder(level=logging.ERROR))


class WorkerErrors:
    """The errors of the workers that are started meanwhile."""

    def __init__(self, folder: Path) -> None:
        """Looks into an existing folder."""
        self._folder = folder

    def first(self) -> str | None:
        """The earliest error of any worker, in one line; None if none was written."""
        files = sorted(self._folder.glob(f"*{_SUFFIX}"))
        return files[0].read_text(encoding="utf-8") if files else None


@contextmanager
def worker_errors() -> Iterator[WorkerErrors]:
    """Has workers that are started inside this context leave their errors behind."""
    before = os.environ.get(FOLDER_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="rllib-dapo-engine-") as folder:
        os.environ[FOLDER_VARIABLE] = folder
        try:
            yield WorkerErrors(Path(folder))
        finally:
            if before is None:
                del os.environ[FOLDER_VARIABLE]
            else:
                os.environ[FOLDER_VARIABLE] = before
