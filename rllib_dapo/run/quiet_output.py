"""What a process and its loggers say, kept for a while instead of printed."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def output_into(path: Path) -> Iterator[None]:
    """Keeps in a file what this process prints meanwhile, native code too: an engine says much when it starts."""
    own = [
        (stream, os.dup(stream.fileno()))
        for stream in (sys.__stdout__, sys.__stderr__)
        if stream is not None
    ]
    with path.open("ab") as file:
        for stream, _ in own:
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
        try:
            yield
        finally:
            for stream, kept in own:
                stream.flush()
                os.dup2(kept, stream.fileno())
                os.close(kept)


@contextmanager
def kept_messages(logger_name: str) -> Iterator[list[str]]:
    """What a logger says meanwhile, also what is only for information, such as how many rows were left out."""
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
