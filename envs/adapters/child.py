"""A process that answers one line of JSON with another, within a deadline, or is killed."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from rllib_dapo.envs.verify import MissingReason

_CHUNK_BYTES = 65_536
_PATIENCE_SECONDS = 5.0  # for a process that was asked to end


class ChildError(RuntimeError):
    """A process that did not answer; the message says why, in the form of a missing verdict's reason."""


class Child:
    """A process that runs a script and is talked to line by line.

    It starts with the first request, is killed when it misses a deadline or dies, and then starts
    afresh with the next one. It ends with this process, whose end closes its standard input. A copy
    of a child has a process of its own.

    Args:
        script: What it runs. Its first line of output says that it is ready.
        arguments: The script's arguments.
        environment: Environment variables beside this process's own.
        start_seconds: How long it may take to be ready.
    """

    def __init__(
        self,
        script: Path,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        start_seconds: float = 60.0,
    ) -> None:
        self._script = script
        self._arguments = tuple(arguments)
        self._environment = dict(environment or {})
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def start(self) -> Any:
        """Starts the process if it does not run, and returns the first thing that it says.

        Raises:
            ChildError: If it is not ready in time.
        """
        # -P: the script's folder holds modules of ours that are called like what they adapt. So may
        # the current folder, which Ray's workers look in.
        command = [sys.executable, "-P", str(self._script), *self._arguments]
        path = os.pathsep.join(
            entry for entry in sys.path if entry and Path(entry).absolute() != Path.cwd()
        )
        environment = {**os.environ, "PYTHONPATH": path, **self._environment}
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._unread = b""
        return self._read(self._start_seconds)

    def ask(self, request: Mapping[str, Any], *, deadline: float) -> Any:
        """Sends a request and returns the answer.

        Args:
            request: What JSON can say; texts may hold anything.
            deadline: Seconds from the request to its answer; the start of the process does not
                count.

        Raises:
            ChildError: If the process missed the deadline or died; the next request starts a new
                one.
        """
        if self._process is None or self._process.poll() is not None:
            self.start()
        try:
            self._pipe("stdin").write(json.dumps(request).encode("ascii") + b"\n")
            self._pipe("stdin").flush()
        except OSError as error:
            self.kill()
            raise ChildError(f"{MissingReason.CRASH}: the process does not read") from error
        return self._read(deadline)

    def close(self) -> None:
        """Asks the process to end, and kills it if it does not."""
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            self._pipe("stdin").close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Ends the process at once."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for name in ("stdin", "stdout"):
            with contextlib.suppress(OSError):  # closing flushes what the process will never read
                self._pipe(name).close()
        self._process = None

    def __del__(self) -> None:
        if getattr(self, "_process", None) is not None:
            self.kill()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None, "_unread": b""}

    def _pipe(self, name: str) -> IO[bytes]:
        pipe = getattr(self._process, name)
        assert pipe is not None
        return pipe  # type: ignore[no-any-return]

    def _read(self, seconds: float) -> Any:
        until = time.monotonic() + seconds
        descriptor = self._pipe("stdout").fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(max(0.0, until - time.monotonic())):
                    self.kill()
                    raise ChildError(f"{MissingReason.TIMEOUT}: no answer within {seconds:g} s")
                chunk = os.read(descriptor, _CHUNK_BYTES)
                if not chunk:
                    self.kill()
                    raise ChildError(f"{MissingReason.CRASH}: the process ended")
                self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)
