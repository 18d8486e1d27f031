"""What Ray's workers print, in a file of the run instead of in the middle of the progress line."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rllib_dapo.ray_internals import global_worker_stdstream_dispatcher
from rllib_dapo.run.error_cause import find_causes

_RAYS_OWN_HANDLER = "ray_print_logs"
_KEPT_EXCEPTIONS = 3
_MOST_EXCEPTIONS = 100
_CONTINUED_LINES = 4  # how much of a message that goes on in further lines is kept
_WORKER_OUTPUT_TAKES_S = 5.0


class WorkerLog:
    """Writes the lines that Ray forwards from all workers, and remembers the first exceptions."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._has_exception = threading.Event()
        self._found: list[tuple[str, list[str]]] = []  # process, and the lines of an exception
        self._open: dict[str, list[str]] = {}  # by process, an exception whose message goes on

    @property
    def exceptions(self) -> list[str]:
        """The message of each exception, once, with the process that printed it.

        One that only says that there is another comes after those that say more.
        """
        told: dict[str, str] = {}
        pointers: dict[str, str] = {}
        for process, lines in self._found:
            for cause in find_causes("\n".join(lines))[-1:]:
                if cause.kind.endswith("Warning"):  # printed, not raised
                    continue
                kind = pointers if cause.points_elsewhere else told
                kind.setdefault(str(cause), f"{process}: {cause}")
        return [*told.values(), *pointers.values()][:_KEPT_EXCEPTIONS]

    def __call__(self, data: Mapping[str, Any]) -> None:
        """Takes one batch of lines of one process, as Ray's dispatcher delivers it."""
        if data.get("pid") == "autoscaler":  # it writes a page every few seconds
            return

        name = data.get("actor_name") or data.get("task_name") or "worker"
        process = f"{name} pid={data.get('pid')}"
        for line in data.get("lines", ()):
            self._stream.write(f"({process}) {line}\n")
            self._take(process, line)
        self._stream.flush()

    def _take(self, process: str, line: str) -> None:
        """Looks for an exception in a line, or for more of one that the line before began."""
        causes = find_causes(line)
        if causes:
            lines = [line]
            # A crash loop repeats itself for hours.
            if len(self._found) < _MOST_EXCEPTIONS:
                self._found.append((process, lines))
            # Pydantic's messages go on, and so do those of which the first line is empty.
            goes_on = not causes[0].text or causes[0].kind == "ValidationError"
            self._open[process] = lines if goes_on else []
            self._has_exception.set()
        elif 0 < len(self._open.get(process, ())) <= _CONTINUED_LINES:
            self._open[process].append(line)

    def wait_for_exception(self) -> tuple[str, ...]:
        """Returns the exceptions once there is one, or after some seconds.

        What a process printed when it failed takes about a second to arrive.
        """
        self._has_exception.wait(_WORKER_OUTPUT_TAKES_S)
        return tuple(self.exceptions)


@contextmanager
def worker_log(path: Path, *, gives_back: bool = False) -> Iterator[WorkerLog]:
    """Sends what workers print to a file while the context lasts. Ray must have been started.

    Args:
        path: Path of the file; lines are appended to it.
        gives_back: Whether Ray prints what workers say again afterwards, because it goes on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        log = WorkerLog(stream)
        rays_own = [
            pair
            for pair in global_worker_stdstream_dispatcher.handlers
            if pair[0] == _RAYS_OWN_HANDLER
        ]
        global_worker_stdstream_dispatcher.remove_handler(_RAYS_OWN_HANDLER)
        global_worker_stdstream_dispatcher.add_handler("rllib_dapo", log)
        try:
            yield log
        finally:
            global_worker_stdstream_dispatcher.remove_handler("rllib_dapo")
            for pair in rays_own if gives_back else ():
                global_worker_stdstream_dispatcher.add_handler(*pair)
