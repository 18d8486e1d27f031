"""A handle on a verifier's process: start it, ask it, wait for it no longer than allowed, kill it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).with_name("child.py")
_PACKAGES = ("rllib_dapo", "rllib_dapo.envs")
_PIECE = 1 << 16
_LONGEST_REPLY = 1 << 20  # a process that says more is not one of ours any longer
_WRITE_SECONDS = 30.0
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ProcessDied(Exception):
    """The process ended, or answered in a way that it must not; the message says how."""


class Closed(Exception):
    """Somebody closed the pool while this process was waited for."""


class VerifierProcess:
    """A child process that runs `child.py`. One thread may use it, and that must be the thread that made it.

    (Linux kills the child when the thread that started it ends.)
    """

    def __init__(self, *, memory_mib: int, wake: int) -> None:
        """Starts the process; it answers as soon as it has imported the rules.

        Args:
            memory_mib: How much a call may take, in MiB.
            wake: A file descriptor; when it becomes readable, waiting ends with `Closed`.

        Raises:
            ProcessDied: If no process can be started.
        """
        self.loaded: set[str] = set()
        self._wake = wake
        self._received = bytearray()
        # -P: next to the script there are modules named like those of the standard library.
        command = [sys.executable, "-P", str(_SCRIPT)]
        environment = os.environ | dict.fromkeys(_THREADS, "1")
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=environment,
                start_new_session=True,  # so that what a scorer has started can be killed with it
            )
        except OSError as error:
            raise ProcessDied(f"no process could be started: {error}") from error
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._to, self._from = self._popen.stdin.fileno(), self._popen.stdout.fileno()
        os.set_blocking(self._to, False)
        packages = {name: sys.modules[name].__path__[0] for name in _PACKAGES}
        path = [str(folder) for folder in sys.path]
        self.send(
            {"parent": os.getpid(), "path": path, "packages": packages, "memory": memory_mib << 20}
        )

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._popen.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends one line.

        Raises:
            ProcessDied: If the process has ended or does not read.
            Closed: See `__init__`.
        """
        data = memoryview(json.dumps(message).encode() + b"\n")
        until = time.monotonic() + _WRITE_SECONDS
        while data:
            if not self._is_ready(self._to, select.POLLOUT, until):
                raise ProcessDied(f"the process read nothing for {_WRITE_SECONDS:.0f} s")
            try:
                data = data[os.write(self._to, data[:_PIECE]) :]
            except BrokenPipeError:
                raise ProcessDied(self._how_it_ended()) from None

    def receive(self, seconds: float) -> Any:
        """Returns the next reply, or None if there is none within so many seconds.

        Raises:
            ProcessDied: If the process has ended, or what it says is no JSON.
            Closed: See `__init__`.
        """
        until = time.monotonic() + seconds
        while (end := self._received.find(b"\n")) < 0:
            if not self._is_ready(self._from, select.POLLIN, until):
                return None
            piece = os.read(self._from, _PIECE)
            self._received += piece
            if not piece:
                raise ProcessDied(self._how_it_ended())
            if len(self._received) > _LONGEST_REPLY:
                raise ProcessDied("the process said too much")
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        try:
            return json.loads(line)
        except ValueError:
            raise ProcessDied("the process said what is no reply") from None

    def kill(self) -> None:
        """Ends the process and what it has started; does nothing where it is over already."""
        if self._popen.returncode is None:
            os.killpg(self._popen.pid, signal.SIGKILL)  # its session's and so its group's number
            self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            if pipe is not None:
                pipe.close()

    def _is_ready(self, descriptor: int, event: int, until: float) -> bool:
        poll = (
            select.poll()
        )  # select() cannot take the high descriptors of a process with many open files
        poll.register(descriptor, event)
        poll.register(self._wake, select.POLLIN)
        ready = poll.poll(max(0.0, until - time.monotonic()) * 1000)
        if any(found == self._wake for found, _ in ready):
            raise Closed
        return bool(ready)

    def _how_it_ended(self) -> str:
        """Its pipe is closed, so it has ended or is about to; either way its own exit status stands."""
        self.kill()
        status = self._popen.returncode
        return (
            f"the process ended with status {status}"
            if status >= 0
            else f"the process died of signal {-status}"
        )
