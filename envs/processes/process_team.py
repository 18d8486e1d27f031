"""A few child processes that run one program: each call goes to one that is free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Any

from rllib_dapo.envs.processes.killable_process import Program
from rllib_dapo.envs.processes.restarting_process import RestartingProcess


class ProcessTeam:
    """Child processes that any thread may call; a thread waits for its own call alone.

    Processes start when they are needed. One that misses a deadline or dies is replaced. While one
    is overdue, another may stand in for it. A copy of this object, in whatever process, starts
    processes of its own.

    Args:
        program: What the processes run.
        most: How many calls run at a time.
    """

    def __init__(self, program: Program, *, most: int) -> None:
        self._program = program
        self.most = most
        self._reset()

    def start(self) -> None:
        """Starts one process, if there is none.

        Raises:
            ProcessFailure: As `RestartingProcess.start`.
        """
        with self._borrowed() as process:
            process.start()

    def call(self, content: Any, *, deadline: float) -> Any:
        """Has one of the processes do something, see `RestartingProcess.call`.

        Args:
            content: What JSON can hold; texts may hold anything.
            deadline: Seconds until the reply; waiting for a process does not count.

        Raises:
            ProcessFailure: As `RestartingProcess.call`.
        """
        with self._borrowed() as process:
            return process.call(content, deadline=deadline, while_overdue=self._while_overdue)

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes there are."""
        pids = [process.pid for process in self._all]
        return [pid for pid in pids if pid is not None]

    def close(self) -> None:
        """Ends all processes that are free, and those that are not at once."""
        with self._condition:
            free, busy = list(self._free), [one for one in self._all if one not in self._free]
        for process in busy:
            process.kill()
        for process in free:
            process.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"_program": self._program, "most": self.most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self._condition = Condition()
        self._all: list[RestartingProcess] = []
        self._free: list[RestartingProcess] = []
        self._num_overdue = 0

    @contextmanager
    def _borrowed(self) -> Iterator[RestartingProcess]:
        with self._condition:
            while not self._free and len(self._all) - self._num_overdue >= self.most:
                self._condition.wait()
            if not self._free:
                self._free.append(RestartingProcess(self._program))
                self._all.append(self._free[-1])
            process = self._free.pop()
        try:
            yield process
        finally:
            with self._condition:
                self._free.append(process)
                self._condition.notify()

    @contextmanager
    def _while_overdue(self) -> Iterator[None]:
        with self._condition:
            self._num_overdue += 1
            self._condition.notify()
        try:
            yield
        finally:
            with self._condition:
                self._num_overdue -= 1
