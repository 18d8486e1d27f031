"""Progress of an evaluation: a bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from rllib_dapo.run.durations import duration
from rllib_dapo.run.progress import LOG_EVERY_S


class EvaluationProgress:
    """Shows how many problems of each data set are done."""

    def __init__(self, *, stream: TextIO | None = None, every_s: float = LOG_EVERY_S) -> None:
        """Shows nothing yet.

        Args:
            stream: Stream to print to; standard output by default.
            every_s: Seconds between lines in a log file.
        """
        self._out = stream or sys.stdout
        self._every_s = every_s

        self._bar: Progress | None = None
        if self._out.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[state]}"),
            )
            self._bar = Progress(*columns, console=Console(file=self._out, highlight=False))
        self._task: TaskID | None = None

        self._name, self._total, self._done_before, self._done = "", 0, 0, 0
        self._started = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, name: str, *, total: int, done: int) -> None:
        """Begins the next data set.

        Args:
            name: Name of the data set.
            total: Number of its problems.
            done: Number of problems that were done before an interruption.
        """
        self._name, self._total, self._done_before, self._done = name, total, done, done
        self._started = time.monotonic()
        self._last_line = float("-inf")

        if self._bar is not None:
            self._task = self._bar.add_task(name, total=total, completed=done, state=self._state())

    def advance(self, problems: int, *, correct: int, responses: int) -> None:
        """Counts problems that are done.

        Args:
            problems: Number of problems that are newly done.
            correct: Number of correct responses so far, without those from before an interruption.
            responses: Number of responses so far, without those from before an interruption.
        """
        self._done += problems
        state = self._state() + (f"  correct {correct / responses:.1%}" if responses else "")

        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, state=state)
        elif self._done == self._total or time.monotonic() - self._last_line >= self._every_s:
            self._out.write(f"{self._name}  {state}\n")
            self._out.flush()
            self._last_line = time.monotonic()

    def _state(self) -> str:
        seconds = time.monotonic() - self._started
        text = f"{self._done}/{self._total} problems  {duration(seconds)}"

        if self._done_before < self._done < self._total:
            remaining = seconds / (self._done - self._done_before) * (self._total - self._done)
            text += f", {duration(remaining)} left"
        return text
