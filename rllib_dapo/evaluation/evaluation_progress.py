"""Progress of an evaluation: a bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from rllib_dapo.run.durations import duration
from rllib_dapo.run.progress import LOG_EVERY_S


class EvaluationProgress:
    """Shows how many responses of each data set are there."""

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
        self._correct = self._sampled = 0
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
            total: Number of responses to all of its problems.
            done: Number of responses that were there before.
        """
        self._name, self._total, self._done_before, self._done = name, total, done, done
        self._correct = self._sampled = 0
        self._started = self._last_line = time.monotonic()

        if self._bar is not None:
            self._task = self._bar.add_task(name, total=total, completed=done, state=self._state())
        else:
            # The engine has started, and a slow model may take long to its first response.
            self._write_line()

    def advance(self, responses: Sequence[Mapping[str, Any]], *, done: int) -> None:
        """Counts responses.

        Args:
            responses: New ones, with their `is_correct`.
            done: Number of all responses that are there now, or will never come because their
                prompts are too long.
        """
        is_new, self._done = done != self._done, done
        self._sampled += len(responses)
        self._correct += sum(bool(response["is_correct"]) for response in responses)

        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, state=self._state())
            return
        is_first = self._sampled == len(responses) > 0
        is_last = is_new and self._done == self._total
        if is_first or is_last or time.monotonic() - self._last_line >= self._every_s:
            self._write_line()

    def _write_line(self) -> None:
        self._out.write(f"{self._name}  {self._state()}\n")
        self._out.flush()
        self._last_line = time.monotonic()

    def _state(self) -> str:
        seconds = time.monotonic() - self._started
        text = f"{self._done}/{self._total} responses  {duration(seconds)}"

        if self._done_before < self._done < self._total:
            remaining = seconds / (self._done - self._done_before) * (self._total - self._done)
            text += f", {duration(remaining)} left"
        if self._sampled:
            text += f"  correct {self._correct / self._sampled:.1%}"
        return text
