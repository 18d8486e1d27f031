"""Runs in sandboxes until they end, or until they pass a limit."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from typing import Final

from rllib_dapo.envs.code.code_limits import CodeLimits
from rllib_dapo.envs.code.sandbox import Sandbox

_LOOK_EVERY: Final = 0.02  # seconds between looks at what a sandbox takes
_PIECE: Final = 1 << 16


class LimitPassed(Exception):
    """A program took more than it may; says of what."""


class WatchedOutput:
    """Reads what one sandbox prints, and watches what it and others take meanwhile."""

    def __init__(
        self, sandbox: Sandbox, watched: Sequence[Sandbox], limits: CodeLimits, *, most_bytes: int
    ) -> None:
        """Begins with the first test.

        Args:
            sandbox: The one that is read from.
            watched: All whose use of CPU time and memory counts.
            limits: What each of them may take.
            most_bytes: How much may be printed to one test.
        """
        self._sandbox, self._watched, self._limits = sandbox, watched, limits
        self._most = most_bytes
        self._received = bytearray()
        self._has_ended = False
        self.begin_test()

    def begin_test(self) -> None:
        """Counts time anew."""
        self._until = time.monotonic() + self._limits.wall_seconds
        self._cpu_before = [sandbox.usage().cpu_seconds for sandbox in self._watched]

    def everything(self) -> bytes:
        """Returns all that is printed until the program has ended and closed its output.

        Raises:
            LimitPassed: If the program has to be ended before.
        """
        while not self._has_ended:
            self._read_some()
        return bytes(self._received)

    def line(self) -> bytes | None:
        """Returns the next line; None after the last one.

        Raises:
            LimitPassed: If the program has to be ended before.
        """
        while (end := self._received.find(b"\n")) < 0:
            if self._has_ended:
                return None
            self._read_some()
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def end(self, sandbox: Sandbox) -> int:
        """Returns a program's status when it has ended.

        Raises:
            LimitPassed: If the program has to be ended before.
        """
        while (status := sandbox.wait(_LOOK_EVERY)) is None:
            self._look()
        return status

    def _read_some(self) -> None:
        poll = select.poll()
        poll.register(self._sandbox.stdout, select.POLLIN)
        if poll.poll(_LOOK_EVERY * 1000):
            piece = os.read(self._sandbox.stdout, _PIECE)
            self._received += piece
            self._has_ended = not piece
        if len(self._received) > self._most:
            raise LimitPassed(f"more than {self._most >> 10} KiB of output")
        if not self._has_ended:
            self._look()

    def _look(self) -> None:
        if time.monotonic() > self._until:
            raise LimitPassed(f"more than {self._limits.wall_seconds:g} s by the clock")
        for sandbox, before in zip(self._watched, self._cpu_before, strict=True):
            usage = sandbox.usage()
            if usage.cpu_seconds - before > self._limits.cpu_seconds:
                raise LimitPassed(f"more than {self._limits.cpu_seconds:g} s of CPU time")
            if usage.memory_bytes > self._limits.memory_mib << 20:
                raise LimitPassed(f"more than {self._limits.memory_mib} MiB of memory")
