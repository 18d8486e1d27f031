"""Runs of a study: which are planned, and the file that keeps those that are done.

A run is one line of JSON, appended when it has ended. So a study that is killed loses the run that
was under way, and one that is started again leaves out what is there. A line names the digest of
the run file that it came from: a run whose settings were changed since is no longer in the study.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class RunKey:
    """What tells runs apart.

    Attributes:
        task: Name of the task.
        arm: Name of the arm.
        lr: Learning rate.
        seed: Seed of sampling and of the order of problems.
    """

    task: str
    arm: str
    lr: float
    seed: int

    @property
    def text(self) -> str:
        """The key in a few words, for progress."""
        return f"{self.task}, {self.arm}, lr {self.lr:g}, seed {self.seed}"


def planned(
    tasks: Sequence[str], arms: Sequence[str], rates: Sequence[float], seeds: Sequence[int]
) -> list[RunKey]:
    """All runs, in the order in which they are worth most: whole seeds of few arms come late.

    Tasks and rates in the order given, then seeds, then arms: a study that is cut off has all arms
    with as many seeds as there was time for.
    """
    return [
        RunKey(task=task, arm=arm, lr=lr, seed=seed)
        for task, lr, seed, arm in product(tasks, rates, seeds, arms)
    ]


def digest(run_file: Mapping[str, Any]) -> str:
    """A short name of a run file's content."""
    text = json.dumps(run_file, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class RunStore:
    """The file of runs."""

    def __init__(self, path: Path) -> None:
        """Takes the file, which need not be there yet."""
        self.path = path

    def add(self, record: Mapping[str, Any]) -> None:
        """Appends a run. Several processes may do so at the same time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(record, separators=(",", ":")) + "\n"
        # One write to a file that is open for appending is not interleaved with another's.
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            if self._ends_within_a_line(descriptor):
                line = "\n" + line
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    @staticmethod
    def _ends_within_a_line(descriptor: int) -> bool:
        """Whether a process was killed while it wrote."""
        size = os.fstat(descriptor).st_size
        return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"

    def lines(self) -> Iterator[dict[str, Any]]:
        """Every whole line of the file, also of settings that have changed since."""
        if not self.path.is_file():
            return
        for line in self.path.read_text().splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue  # cut off when the process was killed: that run is made again
            yield record

    def done(self, digests: Mapping[RunKey, str]) -> dict[RunKey, dict[str, Any]]:
        """The runs that are there, the first of each where it was made twice.

        Args:
            digests: Each planned run, and the digest of its run file.
        """
        found: dict[RunKey, dict[str, Any]] = {}
        for record in self.lines():
            key = RunKey(**{name: record[name] for name in RunKey.__slots__})
            if digests.get(key) == record["digest"]:
                found.setdefault(key, record)
        return found


def share_of(runs: Iterable[RunKey], part: int, parts: int) -> list[RunKey]:
    """The runs of one of several processes, in turn."""
    return [run for index, run in enumerate(runs) if index % parts == part]
