"""What Ray's workers print, in a file of the run instead of in the middle of the progress line."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rllib_dapo.ray_internals import global_worker_stdstream_dispatcher

_RAYS_OWN_HANDLER = "ray_print_logs"
_EXCEPTION = re.compile(r"(\w+\.)*\w*(Error|Exception|Interrupt)(: .*)?")
_KEPT_EXCEPTIONS = 3
_WORKER_OUTPUT_TAKES_S = 5.0


class WorkerLog:
    """Writes the lines that Ray forwards from all workers, and remembers the first exceptions.

    Attributes:
        exceptions: The last line of each exception, once, with the process that printed it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._has_exception = threading.Event()
        self.exceptions: list[str] = []

    def __call__(self, data: Mapping[str, Any]) -> None:
        """Takes one batch of lines of one process, as Ray's dispatcher delivers it."""
        if data.get("pid") == "autoscaler":  # it writes a page every few seconds
            return

        name = data.get("actor_name") or data.get("task_name") or "worker"
        process = f"{name} pid={data.get('pid')}"
        for line in data.get("lines", ()):
            self._stream.write(f"({process}) {line}\n")
            if _EXCEPTION.fullmatch(line) and not any(line in known for known in self.exceptions):
                self.exceptions = [*self.exceptions, f"{process}: {line}"][:_KEPT_EXCEPTIONS]
                self._has_exception.set()
        self._stream.flush()

    def wait_for_exception(self) -> tuple[str, ...]:
        """Returns the exceptions once there is one, or after some seconds.

        What a process printed when it failed takes about a second to arrive.
        """
        self._has_exception.wait(_WORKER_OUTPUT_TAKES_S)
        return tuple(self.exceptions)


@contextmanager
def worker_log(path: Path) -> Iterator[WorkerLog]:
    """Sends what workers print to a file while the context lasts. Ray must have been started.

    Args:
        path: Path of the file; lines are appended to it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        log = WorkerLog(stream)
        global_worker_stdstream_dispatcher.remove_handler(_RAYS_OWN_HANDLER)
        global_worker_stdstream_dispatcher.add_handler("rllib_dapo", log)
        try:
            yield log
        finally:
            global_worker_stdstream_dispatcher.remove_handler("rllib_dapo")
