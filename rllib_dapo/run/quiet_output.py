"""Output of this process and its loggers, kept for a while instead of printed."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def output_into(path: Path) -> Iterator[None]:
    """Sends what this process prints to a file while the context lasts.

    An engine prints a lot when it starts, much of it from C++. So the file descriptors are
    redirected, not `sys.stdout`.
    """
    streams = [
        (stream, os.dup(stream.fileno()))
        for stream in (sys.__stdout__, sys.__stderr__)
        if stream is not None
    ]

    with path.open("ab") as file:
        for stream, _ in streams:
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())

        try:
            yield
        finally:
            for stream, kept in streams:
                stream.flush()
                os.dup2(kept, stream.fileno())
                os.close(kept)


@contextmanager
def kept_messages(logger_name: str) -> Iterator[list[str]]:
    """Collects what a logger says while the context lasts, from level INFO on, each message once.

    Messages of level INFO are often not printed, though they matter: how many rows of a data set
    were left out, for example.
    """
    kept: list[str] = []

    class _Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() not in kept:
                kept.append(record.getMessage())

    logger, handler = logging.getLogger(logger_name), _Keep()
    level, propagates = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False

    try:
        yield kept
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates
