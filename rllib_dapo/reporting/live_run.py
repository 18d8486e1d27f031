"""Runs that go on: their content is gathered anew when their folders have changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rllib_dapo.findings import SettingsError
from rllib_dapo.reporting.compared_runs import read_runs
from rllib_dapo.reporting.render_page import no_link
from rllib_dapo.reporting.report_content import report_content

# What a report reads, below the folder of a run.
_PATTERNS = (
    "experiment_state-*.json",
    "run.json",
    "*/result.json",
    "*/error.*",
    "*/*.json",
    "*/samples/*.jsonl",
    "*/timeline/*.json",
    "*/checkpoint_*",
)
_REST = 4.0  # times what the last reading took: a large run must not keep a core busy


class LiveContent(NamedTuple):
    """What the page shows.

    Attributes:
        version: Another text whenever the content has changed.
        content: What `report_content` returns.
    """

    version: str
    content: dict[str, Any]


class LiveRun:
    """Reads the folders of runs again and again, for several threads."""

    def __init__(
        self,
        folders: Sequence[str],
        *,
        metric: str | None = None,
        mode: Literal["max", "min"] | None = None,
    ) -> None:
        """Reads nothing yet.

        Args:
            folders: Folders of the runs.
            metric: Metric by which trials are compared; see `read_run`.
            mode: Whether a higher or a lower value is better; see `read_run`.

        Raises:
            SettingsError: If one of them is not a folder on this machine.
        """
        for folder in folders:
            if not Path(folder).expanduser().is_dir():
                raise SettingsError(f"{folder}: --live needs a folder on this machine")
        self._folders = [str(Path(folder).expanduser()) for folder in folders]
        self._metric, self._mode = metric, mode
        self._lock = threading.Lock()
        self._seen: tuple | None = None
        self._count, self._next_reading = 0, 0.0
        self._newest: LiveContent | None = None
        self.problem = "no trial has begun yet"

    def newest(self) -> LiveContent | None:
        """Gives what the folders hold now, or a moment ago if reading them takes long.

        What cannot be read, since it is just being written, leaves the content as it was.

        Returns:
            The content; None as long as there is no trial. `problem` then says why.
        """
        with self._lock:
            now = time.monotonic()
            seen = self._state_of_files()
            if seen == self._seen or now < self._next_reading:
                return self._newest

            content = self._read()
            self._next_reading = time.monotonic() + _REST * (time.monotonic() - now)
            if content is not None:
                self._seen, self._count = seen, self._count + 1
                self._newest = LiveContent(str(self._count), content)
            return self._newest

    def _read(self) -> dict[str, Any] | None:
        try:
            runs = read_runs(self._folders, metric=self._metric, mode=self._mode)
            if not all(run.trials for run in runs):
                return None
            return report_content(*runs, link=no_link)
        except (SettingsError, OSError, ValueError, KeyError, EOFError) as error:
            self.problem = str(error)
            return None

    def _state_of_files(self) -> tuple:
        """Size and time of every file that is read; those that vanish meanwhile are left out."""
        found = []
        for folder in self._folders:
            paths = {path for pattern in _PATTERNS for path in Path(folder).glob(pattern)}
            for path in sorted(paths):
                try:
                    state = path.stat()
                except OSError:
                    continue
                found.append((str(path), state.st_size, state.st_mtime_ns))
        return tuple(found)
