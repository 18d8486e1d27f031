"""What one thread of a pool does: it runs jobs in a process, and replaces the process if lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from rllib_dapo.envs.processes.killable_process import KillableProcess, Program
from rllib_dapo.envs.processes.replies import (
    DeadlineMissed,
    LoadFailed,
    PoolClosed,
    ProcessDied,
    ProcessFailure,
    Reply,
    read_greeting,
    read_reply,
)

T = TypeVar("T")

_LOAD_SECONDS = 60.0  # importing what a user's function needs may take its time
_LOAD_PATIENCE_SECONDS = 5.0
_PATIENCE_SECONDS = 0.5  # after which a process counts as overdue, and another one stands in


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Something that a process has to load once before certain calls.

    Attributes:
        key: Tells it from everything else that is loaded.
        content: What the service's `load` is called with.
    """

    key: str
    content: Any = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Job(Generic[T]):
    """One call that is wanted, and where its result goes.

    Attributes:
        content: What the service's `call` is called with.
        future: Where the result goes; it is running already, so that nobody cancels it.
        read: Makes the result of the service's reply or of the reason why there is none. It must
            not raise, but for `ProcessDied` over a reply that makes no sense.
        characters: How much text the content carries.
        is_quick: Whether the call takes microseconds and never hangs; such calls travel together.
        is_async: Whether the call waits for something else beside others that it travels with.
        seconds: Its deadline; None: the pool's.
        load: What must have been loaded before.
    """

    content: Any
    future: Future[T]
    read: Callable[[Reply | ProcessFailure], T]
    characters: int = 0
    is_quick: bool = False
    is_async: bool = False
    seconds: float | None = None
    load: Load | None = None

    def travels_with(self, other: Job[Any]) -> bool:
        """Whether two calls may be sent in one message."""
        if self.is_async and other.is_async:
            return self.load is None or (other.load is not None and self.load.key == other.load.key)
        return self.is_quick and other.is_quick

    def settle(self, outcome: Reply | ProcessFailure) -> None:
        """Gives the future its result.

        Raises:
            ProcessDied: If the reply makes no sense; the future is still open then.
        """
        self.future.set_result(self.read(outcome))


class PoolWorker:
    """Runs jobs one after the other in a process, which it starts when it needs one."""

    def __init__(
        self,
        program: Program,
        *,
        seconds: float,
        wake: int,
        overdue: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Starts nothing yet.

        Args:
            program: What the process runs.
            seconds: Deadline of a job that has none of its own.
            wake: See `KillableProcess`.
            overdue: Makes the context in which a process is waited for that takes unusually long.
        """
        self._program = program
        self._seconds = seconds
        self._wake = wake
        self._overdue = overdue
        self._unloadable: dict[str, str] = {}
        self.process: KillableProcess | None = None

    def run(self, batch: deque[Job[Any]]) -> None:
        """Settles jobs and takes them out of the batch; those left in it want another run.

        Args:
            batch: Jobs in their order, at least one. If they are several, they travel together.

        Raises:
            PoolClosed: If the pool is closed meanwhile.
        """
        try:
            self._run(batch)
        except PoolClosed:
            raise
        except LoadFailed as failure:
            batch.popleft().settle(failure)
        except ProcessFailure as failure:
            self.end()
            if len(batch) > 1 and batch[0].is_async:
                # It was at any of these. Each travels alone now, and the others lose nothing.
                alone = [replace(job, is_async=False) for job in batch]
                batch.clear()
                batch.extend(alone)
                return
            # It was at the first job that is not settled yet; the others lose nothing.
            batch.popleft().settle(failure)

    def end(self) -> None:
        """Kills the process, if there is one."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def _run(self, batch: deque[Job[Any]]) -> None:
        process = self._ready_process()
        if batch[0].load is not None:
            self._load(process, batch[0].load)

        process.send({"calls": [job.content for job in batch]})
        while batch:
            seconds = self._seconds if batch[0].seconds is None else batch[0].seconds
            message = self._wait(process, seconds, _PATIENCE_SECONDS)
            if message is None:
                raise DeadlineMissed(f"no reply within {seconds:g} s")
            reply = read_reply(message)
            batch[0].settle(reply)
            batch.popleft()
            if reply.is_worn:
                self.end()
                return

    def _ready_process(self) -> KillableProcess:
        """Returns the process, started outside of any job's deadline."""
        if self.process is None:
            self.process = KillableProcess(self._program, wake=self._wake)
            seconds = self._program.start_seconds
            message = self._wait(self.process, seconds, _LOAD_PATIENCE_SECONDS)
            if message is None:
                raise ProcessDied(f"starting the process took more than {seconds:g} s")
            read_greeting(message)
        return self.process

    def _load(self, process: KillableProcess, load: Load) -> None:
        """Has the process load something, outside of any job's deadline.

        Raises:
            LoadFailed: If the service raises; it is not asked again then.
        """
        if load.key in process.loaded:
            return

        if load.key not in self._unloadable:
            process.send({"load": load.content})
            message = self._wait(process, _LOAD_SECONDS, _LOAD_PATIENCE_SECONDS)
            if message is None:
                raise ProcessDied(f"loading took more than {_LOAD_SECONDS:g} s")
            reply = read_reply(message)
            if not reply.error:
                process.loaded.add(load.key)
                return
            self._unloadable[load.key] = reply.error

        raise LoadFailed(self._unloadable[load.key])

    def _wait(self, process: KillableProcess, seconds: float, patience: float) -> Any:
        message = process.receive(min(patience, seconds))
        if message is None and seconds > patience:
            with self._overdue():
                return process.receive(seconds - patience)
        return message
