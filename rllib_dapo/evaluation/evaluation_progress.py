"""How an evaluation is doing: a bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from rllib_dapo.run.progress import LOG_EVERY_S, duration


class EvaluationProgress:
    """Tells how many problems are done, of one data set after the other."""

    def __init__(self, *, stream: TextIO | None = None, every_s: float = LOG_EVERY_S) -> None:
        """Says nothing yet.

        Args:
            stream: Where to print; standard output by default.
            every_s: In a log file, seconds between lines.
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
        self._name, self._total, self._first, self._done = "", 0, 0, 0
        self._started = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, name: str, *, total: int, done: int) -> None:
        """Goes on to the next data set.

        Args:
            name: Its name.
            total: Its problems.
            done: Those of them that were done before.
        """
        self._name, self._total, self._first, self._done = name, total, done, done
        self._started = time.monotonic()
        self._last_line = float("-inf")
        if self._bar is not None:
            self._task = self._bar.add_task(name, total=total, completed=done, state=self._state())

    def advance(self, problems: int, *, correct: int, responses: int) -> None:
        """Counts problems that are done.

        Args:
            problems: How many more.
            correct: Correct responses to all that are done in this run.
            responses: All responses to these.
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
        if self._first < self._done < self._total:
            left = seconds / (self._done - self._first) * (self._total - self._done)
            text += f", {duration(left)} left"
        return text
