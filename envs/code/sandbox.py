"""A program in bubblewrap's sandbox: how it is started, watched from outside, and ended.

A sandbox has no network, no process but its own, and no file but Python's, which are read-only, and
a scratch folder in memory. It ends as a whole, whatever its program has started, and with the
process that started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from rllib_dapo.envs.code.bubblewrap import (
    INSIDE,
    SandboxFailed,
    bubblewrap_command,
    interpreter,
    is_machines_root,
)
from rllib_dapo.envs.code.code_limits import CodeLimits
from rllib_dapo.envs.code.syscall_filter import syscall_filter

PROGRAM: Final = "/tmp/program.py"
START_SECONDS: Final = 60.0

# Users that nobody is. Each thread that starts a sandbox has another one, since the kernel counts
# processes by their user.
_FIRST_USER = 0x4000_0000
_ENVIRONMENT = {
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PATH": "/usr/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONPATH": "/sandbox",
    "PYTHONUTF8": "1",
    "TMPDIR": "/tmp",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What the processes of a sandbox have taken.

    Attributes:
        cpu_seconds: CPU time of those that run, and of those that they have waited for.
        memory_bytes: Memory that they hold, and what the scratch folder's files take of the
            kernel's.
    """

    cpu_seconds: float
    memory_bytes: int


class Sandbox:
    """One sandbox with one program in it.

    Attributes:
        stdout: Descriptor of what it prints, to be read by whoever started it.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        files: Mapping[str, str],
        limits: CodeLimits,
        num_tests: int = 1,
        stdin: str = "",
        channels: Sequence[int] = (),
    ) -> None:
        """Starts the sandbox; `wait_until_ready` must follow.

        Args:
            arguments: What Python is called with in it.
            files: Texts in the scratch folder, by path.
            limits: What the program may take.
            num_tests: For how many tests it runs.
            stdin: What it can read from its standard input.
            channels: Descriptors that it is given under their own numbers.

        Raises:
            SandboxFailed: If there is no sandbox.
        """
        python = interpreter()
        command = bubblewrap_command(python)
        job = {
            "limits": limits.of_resources(num_tests=num_tests),
            "user": _FIRST_USER + threading.get_native_id() if is_machines_root() else None,
            "files": dict(files),
            "arguments": [str(python), "-s", "-P", *arguments],
            "environment": _ENVIRONMENT,
        }

        with contextlib.ExitStack() as ours:
            job_file = ours.enter_context(_sealed_file(json.dumps(job).encode()))
            stdin_file = ours.enter_context(
                _sealed_file(stdin.encode("utf-8", errors="surrogatepass"))
            )
            rules = ours.enter_context(_sealed_file(syscall_filter()))
            self._ready, ready = os.pipe()
            self._info, info = os.pipe()
            ours.callback(os.close, ready)
            ours.callback(os.close, info)
            command += ["--seccomp", str(rules.fileno()), "--info-fd", str(info)]
            command += [str(python), "-S", "-s", "-P", f"{INSIDE}/sandbox_launch.py"]
            command += [str(job_file.fileno()), str(ready)]
            try:
                self._popen = subprocess.Popen(
                    command,
                    stdin=stdin_file,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    pass_fds=(job_file.fileno(), rules.fileno(), ready, info, *channels),
                    env={},
                )
            except OSError as error:
                os.close(self._ready)
                os.close(self._info)
                raise SandboxFailed(f"bubblewrap cannot be started: {error}") from None

        assert self._popen.stdout is not None
        self.stdout = self._popen.stdout.fileno()
        self._first: int | None = None  # descriptor of the sandbox's first process
        self._first_pid = 0

    def wait_until_ready(self) -> None:
        """Waits until the program itself begins.

        Raises:
            SandboxFailed: If it does not.
        """
        is_ready = _readable(self._ready, START_SECONDS) and os.read(self._ready, 1) == b"R"

        # Where that has come, bubblewrap has told which process is the first. Where it has not,
        # there may be nothing to be read, ever.
        told = b""
        os.set_blocking(self._info, False)
        with contextlib.suppress(ValueError, KeyError, OSError):
            while b"}" not in told and (piece := os.read(self._info, 4096)):
                told += piece
            self._first_pid = int(json.loads(told)["child-pid"])
            self._first = os.pidfd_open(self._first_pid)
        if is_ready:
            return
        self._end()
        complaint = self._complaint()
        self.close()
        raise SandboxFailed(complaint)

    def usage(self) -> Usage:
        """Returns what its processes take at this moment."""
        ticks, pages = 0, 0
        for pid in _descendants(self._first_pid):
            with contextlib.suppress(OSError, ValueError, IndexError):
                # What follows the name, which may hold anything: state is field 3 of `proc(5)`.
                fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
                ticks += sum(map(int, fields[11:15]))
                pages += int(fields[21])

        inodes = 0
        with contextlib.suppress(OSError):
            scratch = os.statvfs(f"/proc/{self._first_pid}/root/tmp")
            inodes = scratch.f_files - scratch.f_ffree
        return Usage(
            cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
            memory_bytes=pages * os.sysconf("SC_PAGE_SIZE") + inodes * 1024,
        )

    def wait(self, seconds: float) -> int | None:
        """Waits for the program's end, and returns its status; None if it takes longer.

        Returns:
            The exit status, or 128 and the number of the signal that ended it.
        """
        if self._first is not None and not _readable(self._first, seconds):
            return None
        return self._popen.wait()

    def close(self) -> None:
        """Ends everything in the sandbox, and returns when it has ended."""
        self._end()
        for descriptor in (self._ready, self._info):
            if descriptor >= 0:
                os.close(descriptor)
        self._ready = self._info = -1
        for pipe in (self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                pipe.close()

    def _end(self) -> None:
        if self._first is not None:
            # The first process of a namespace: the kernel ends all others with it, and it is over
            # when they are.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
            _readable(self._first, START_SECONDS)
            os.close(self._first)
            self._first = None
        elif self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()

    def _complaint(self) -> str:
        """Returns the last line that bubblewrap or the first program told, which have ended."""
        assert self._popen.stderr is not None
        text = self._popen.stderr.read(1 << 16).decode(errors="replace").strip()
        return text.splitlines()[-1] if text else f"it ended with status {self._popen.returncode}"


@contextlib.contextmanager
def _sealed_file(content: bytes) -> Iterator[BinaryIO]:
    """A file in memory that nobody can change any more, open at its beginning."""
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    descriptor = os.memfd_create("rllib-dapo", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(descriptor, "rb+") as file:
        file.write(content)
        file.seek(0)
        fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, seals)
        yield file


def _readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _descendants(pid: int) -> list[int]:
    """Returns the processes that descend from one, itself among them."""
    found, unseen = [], [pid] if pid else []
    while unseen:
        found.append(unseen.pop())
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{found[-1]}/task"):
                children = Path(f"/proc/{found[-1]}/task/{thread}/children").read_text()
                unseen += map(int, children.split())
    return found
