"""A handle on a child process: start it, ask it, wait no longer than allowed, kill it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rllib_dapo.envs.processes.lasting_thread import call_in_lasting_thread
from rllib_dapo.envs.processes.replies import PoolClosed, ProcessDied, no_reply

_SCRIPT = Path(__file__).with_name("serve.py")
_PACKAGES = ("rllib_dapo", "rllib_dapo.envs")  # whose `__init__` a child does not run unasked
_PIECE = 1 << 16
_WRITE_SECONDS = 30.0
# As many processes as cores are enough; more threads in each would only get in their way.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """What a child process runs, and within which bounds.

    Attributes:
        service: A subclass of `Service`, as `package.module:Class`.
        settings: What it is made with, by name; what JSON can hold.
        path: Where the child looks for modules; by default where this process does.
        environment: Environment variables beside this process's own.
        memory_allowance: Bytes that calls may take beyond what the process holds once everything
            is loaded; None: no such bound.
        memory_total: Bytes that the process may hold altogether; None: no such bound.
        start_seconds: How long it may take until the service is made.
        longest_reply: Bytes of a reply; a process that says more is killed.
        is_silent: Whether what it prints is thrown away, rather than printed by this process.
    """

    service: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    path: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_allowance: int | None = None
    memory_total: int | None = None
    start_seconds: float = 60.0
    longest_reply: int = 1 << 24
    is_silent: bool = False


class KillableProcess:
    """A child process with a service in it. One thread at a time may use it.

    It ends with this process, whatever ends that, and in the middle of a call too.

    Attributes:
        program: What it runs.
        loaded: Keys of what its service has loaded; kept by whoever has it load something.
    """

    def __init__(self, program: Program, *, wake: int | None = None) -> None:
        """Starts the process. Its first message says that it is ready, see `read_greeting`.

        Args:
            program: What it runs.
            wake: A file descriptor; when it becomes readable, waiting ends with `PoolClosed`.

        Raises:
            ProcessDied: If no process can be started.
        """
        self.program = program
        self.loaded: set[str] = set()
        self._wake = wake
        self._received = bytearray()

        hello = _line(_hello(program))  # before anything is started: it may not be JSON
        self._popen = _start(program)
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._to, self._from = self._popen.stdin.fileno(), self._popen.stdout.fileno()
        os.set_blocking(self._to, False)
        self._write(hello)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._popen.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process is over."""
        if self._popen.returncode is not None:
            return True
        # Looked at without being reaped: until then nobody else can get its number, nor that of
        # its session, by which `kill` finds what it has started.
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PID, self._popen.pid, flags) is not None
        except ChildProcessError:  # this process has the kernel reap its children
            return True

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends one line.

        Raises:
            ProcessDied: If the process has ended or does not read.
            PoolClosed: See `__init__`.
        """
        self._write(_line(message))

    def receive(self, seconds: float) -> Any:
        """Returns the next message, or None if there is none within `seconds`.

        Nothing in it is evaluated or unpickled: it is JSON, and the reader's to check.

        Raises:
            ProcessDied: If the process has ended, or what it says is not JSON.
            PoolClosed: See `__init__`.
        """
        until = time.monotonic() + seconds
        while (end := self._received.find(b"\n")) < 0:
            if not self._is_ready(self._from, select.POLLIN, until):
                return None
            piece = os.read(self._from, _PIECE)
            self._received += piece
            if not piece:
                raise ProcessDied(self._how_it_ended())
            if len(self._received) > self.program.longest_reply:
                raise ProcessDied("the process said too much")

        line = bytes(self._received[:end])
        del self._received[: end + 1]
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise no_reply() from None

    def close(self, patience_seconds: float) -> None:
        """Asks the process to end, by closing its input, and kills it if it does not."""
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        until = time.monotonic() + patience_seconds
        while not self.has_ended and time.monotonic() < until:
            time.sleep(0.005)
        self.kill()

    def kill(self) -> None:
        """Ends the process and what it has started; does nothing where it is over already."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # The number of its session is that of its group.
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _write(self, line: bytes) -> None:
        data = memoryview(line)
        until = time.monotonic() + _WRITE_SECONDS
        while data:
            if not self._is_ready(self._to, select.POLLOUT, until):
                raise ProcessDied(f"the process read nothing for {_WRITE_SECONDS:.0f} s")
            try:
                data = data[os.write(self._to, data[:_PIECE]) :]
            except BrokenPipeError:
                raise ProcessDied(self._how_it_ended()) from None

    def _is_ready(self, descriptor: int, event: int, until: float) -> bool:
        # select() cannot take the high descriptors of a process with many open files.
        poll = select.poll()
        poll.register(descriptor, event)
        if self._wake is not None:
            poll.register(self._wake, select.POLLIN)

        ready = poll.poll(max(0.0, until - time.monotonic()) * 1000)
        if any(found == self._wake for found, _ in ready):
            raise PoolClosed("the pool was closed")
        return bool(ready)

    def _how_it_ended(self) -> str:
        """Says how; its pipe is closed, so it has ended or is about to, and its status stands."""
        self.kill()
        status = self._popen.returncode
        if status < 0:
            return f"the process died of signal {-status}"
        return f"the process ended with status {status}"


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _hello(program: Program) -> dict[str, Any]:
    """What a child is told before it makes its service."""
    path = sys.path if program.path is None else program.path
    return {
        "parent": os.getpid(),
        "path": [str(folder) for folder in path],
        "packages": {name: sys.modules[name].__path__[0] for name in _PACKAGES},
        "service": program.service,
        "settings": dict(program.settings),
        "memory_allowance": program.memory_allowance,
        "memory_total": program.memory_total,
    }


def _start(program: Program) -> subprocess.Popen[bytes]:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            # -P: the script's own folder is not a place to import from.
            [sys.executable, "-P", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if program.is_silent else None,
            bufsize=0,
            env={**os.environ, **_ONE_THREAD, **program.environment},
            start_new_session=True,  # so that what a service has started can be killed with it
        )

    try:
        return call_in_lasting_thread(start)
    except OSError as error:
        raise ProcessDied(f"no process could be started: {error}") from error
