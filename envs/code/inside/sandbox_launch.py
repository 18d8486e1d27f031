"""First program in a sandbox: sets the limits, gives up every right, and becomes what is asked for.

    python sandbox_launch.py JOB_FD READY_FD

The job is JSON: `limits` (numbers by the name of the resource), `user` (None: stay who you are),
`files` (texts by path), `arguments` and `environment` of what is run. One byte on READY_FD says
that everything before the model's program has worked.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from typing import Any, NoReturn

SCRATCH = "/tmp"


def main() -> None:
    """Does the job; does not return."""
    job_descriptor, ready = int(sys.argv[1]), int(sys.argv[2])
    with os.fdopen(job_descriptor, "rb") as file:
        job: dict[str, Any] = json.load(file)
    os.set_inheritable(ready, False)

    # This process stays who it is: the kernel forgets that a process is to end with its parent, as
    # bubblewrap has asked for, when that process becomes another user.
    if child := os.fork():
        _see_it_through(child)

    # As another user, who has no capabilities: the kernel bounds no number of processes for root.
    if job["user"] is not None:
        os.setgroups([])
        os.setresgid(job["user"], job["user"], job["user"])
        os.setresuid(job["user"], job["user"], job["user"])
    for name, most in job["limits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))

    os.chdir(SCRATCH)
    for path, text in job["files"].items():
        with open(path, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
            file.write(text)

    # What went wrong so far was told on the error output; a program's own errors interest nobody.
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.write(ready, b"R")
    os.execve(sys.executable, job["arguments"], job["environment"])


def _see_it_through(child: int) -> NoReturn:
    """Waits for the program, as the first process of the sandbox, and ends as it has ended.

    All others end with this one, whatever they do: no signal of theirs reaches it.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        signal.signal(number, signal.SIG_IGN)
    os.closerange(0, 1 << 20)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
