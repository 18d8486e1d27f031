"""The quiet of the command line for a program of one's own: `with rllib_dapo.quiet(...)`.

Ray, RLlib, Tune, transformers and vLLM print hundreds of lines about themselves. This keeps them
out of a program's output and in a file, where the cause of a failure can be looked up.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rllib_dapo.run.worker_log import WorkerLog


@contextmanager
def quiet(log: str | Path = "workers.log") -> Iterator[WorkerLog]:
    """Keeps Ray and its libraries quiet while the context lasts.

    Ray is started if it is not running in this process yet, as Tune would do, and then shut down at
    the end. What this process's own code prints is printed, `tune.RunConfig(verbose=...)` included.

    Args:
        log: File to which the output of all of Ray's workers is appended.

    Yields:
        The log. Its `exceptions` are the first errors that workers printed, each in one line with
        the process that printed it.

    Raises:
        SettingsError: If Ray does not start; the message says why.
    """
    import ray

    from rllib_dapo.run.quiet_ray import LOGGERS, VARIABLES, join_ray, silence
    from rllib_dapo.run.worker_log import worker_log

    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    variables = {name: os.environ.get(name) for name in VARIABLES}
    is_ours = not ray.is_initialized()
    with warnings.catch_warnings():
        silence()
        try:
            if is_ours:
                join_ray()
            with worker_log(Path(log).expanduser(), gives_back=not is_ours) as kept:
                yield kept
        finally:
            if is_ours:
                ray.shutdown()
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            for name, value in variables.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
