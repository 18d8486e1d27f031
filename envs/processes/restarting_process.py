"""One child process that is asked directly, and replaced where it is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rllib_dapo.envs.processes.killable_process import KillableProcess, Program
from rllib_dapo.envs.processes.replies import (
    DeadlineMissed,
    ServiceFailed,
    read_greeting,
    read_reply,
)

_PATIENCE_SECONDS = 5.0  # for a process that was asked to end


class RestartingProcess:
    """A child process that starts with the first call.

    It is killed when it misses a deadline, and another one starts with the next call after it is
    lost. A copy of this object, in whatever process, starts a process of its own.

    Args:
        program: What the process runs.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._process: KillableProcess | None = None
        self._is_worn = False

    @property
    def pid(self) -> int | None:
        """The number of the process, if there is one."""
        return None if self._process is None else self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and not self._process.has_ended

    @property
    def is_running(self) -> bool:
        """Whether there is a process, and it is not worn: it does not hold too much memory yet."""
        return self.is_alive and not self._is_worn

    def start(self) -> None:
        """Starts the process if it is not running.

        Raises:
            ServiceRefused: If the service cannot be made with its settings.
            ProcessFailure: If the process is not ready in time, or ends before that.
        """
        if self.is_running:
            return
        self.kill()
        self._process = KillableProcess(self._program)
        with self._killed_on_failure():
            read_greeting(self._receive(self._program.start_seconds))

    def load(self, content: Any, *, deadline: float) -> Any:
        """Has the service load something, in a process that is started if there is none.

        Args:
            content: What the service's `load` is called with.
            deadline: Seconds until the reply; the start of the process does not count.

        Returns:
            What the service's `load` returned.

        Raises:
            ProcessFailure: As `call`.
        """
        self.start()
        return self._ask({"load": content}, deadline=deadline, while_overdue=nullcontext)

    def call(
        self,
        content: Any,
        *,
        deadline: float,
        replace_worn: bool = True,
        while_overdue: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Any:
        """Has the service do something, and returns what it returns.

        Args:
            content: What JSON can hold; texts may hold anything.
            deadline: Seconds until the reply; the start of the process does not count.
            replace_worn: Whether a process that holds so much memory that it should be replaced is
                ended at once. Where the service keeps what later calls need, it is not: it is used
                until its owner sees that it is not `is_running`, and calls `start` or `load`.
            while_overdue: Makes the context in which the second half of the time is waited for.

        Raises:
            DeadlineMissed: If there is no reply in time.
            ServiceFailed: If the service raises; the process goes on.
            ProcessFailure: If the process dies.
        """
        if replace_worn or not self.is_alive:
            self.start()
        value = self._ask({"calls": [content]}, deadline=deadline, while_overdue=while_overdue)
        if self._is_worn and replace_worn:
            self.kill()
        return value

    def close(self) -> None:
        """Asks the process to end, and kills it if it does not."""
        if self._process is not None:
            self._process.close(_PATIENCE_SECONDS)
            self._process = None

    def kill(self) -> None:
        """Ends the process at once."""
        if self._process is not None:
            self._process.kill()
            self._process = None
        self._is_worn = False

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None:
            self.kill()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None}

    def _ask(
        self,
        message: dict[str, Any],
        *,
        deadline: float,
        while_overdue: Callable[[], AbstractContextManager[None]],
    ) -> Any:
        assert self._process is not None
        with self._killed_on_failure():
            self._process.send(message)
            told = self._process.receive(deadline / 2)
            if told is None:
                with while_overdue():
                    told = self._receive(deadline / 2, of=deadline)
            reply = read_reply(told)

        self._is_worn = self._is_worn or reply.is_worn
        if reply.error:
            raise ServiceFailed(reply.error)
        return reply.value

    def _receive(self, seconds: float, *, of: float | None = None) -> Any:
        assert self._process is not None
        message = self._process.receive(seconds)
        if message is None:
            raise DeadlineMissed(f"no reply within {of or seconds:g} s")
        return message

    @contextmanager
    def _killed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # Also where this thread is interrupted: a reply that comes late must not be taken for
            # that to the next call.
            self.kill()
            raise
