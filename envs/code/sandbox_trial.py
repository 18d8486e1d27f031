"""A trial of the sandbox, before anything depends on it: does it start, and does it hold?"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from typing import Final

from rllib_dapo.envs.code.bubblewrap import SandboxFailed
from rllib_dapo.envs.code.code_limits import CodeLimits
from rllib_dapo.envs.code.sandbox import PROGRAM, Sandbox
from rllib_dapo.envs.code.watched_run import LimitPassed, WatchedOutput

INSTALL: Final = "apt-get install bubblewrap libseccomp2, and pip install 'rllib-dapo[code]'"
_ELSEWHERE = (
    "in a container it wants the right to make namespaces: as root --cap-add SYS_ADMIN and "
    "--security-opt seccomp=unconfined, otherwise kernel.unprivileged_userns_clone=1"
)

# Tries what no program may do, prints what it could do all the same, and waits to be looked at.
_TRIAL = """
import os, socket, sys, time

held = []
try:
    socket.socket(socket.AF_INET)
    held.append("sockets can be opened")
except OSError:
    pass
if os.path.exists("/etc/passwd") or os.path.exists("/home"):
    held.append("files of the machine can be seen")
try:
    open("/usr/lib/rllib-dapo-trial", "w")
    held.append("files of the machine can be written")
except OSError:
    pass
children = []
try:
    for _ in range(int(sys.stdin.readline())):
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        children.append(child)
    held.append("the number of processes has no bound")
except OSError:
    pass
if not children:
    held.append("no process can be started, so that the user's limit is used up")
print("; ".join(held) or "holds", flush=True)
time.sleep(60)
"""


@lru_cache(maxsize=8)
def try_sandbox(limits: CodeLimits) -> str:
    """Runs a program that tries to get out.

    Args:
        limits: What programs may take. The trial itself waits longer.

    Returns:
        What is wrong and the way out, in one line; empty if the sandbox holds.
    """
    try:
        fault = _fault(replace(limits, wall_seconds=60.0, cpu_seconds=60.0))
    except ImportError:
        return f"pyseccomp is not installed: {INSTALL}"
    except RuntimeError as error:
        return f"{error}: {INSTALL}"
    except SandboxFailed as error:
        is_missing = "not installed" in str(error)
        return f"{error}: {INSTALL}" if is_missing else f"{error}: {_ELSEWHERE}"
    except LimitPassed as passed:
        return f"a trial program took {passed}: give it more"
    return fault and f"the sandbox does not hold: {fault}: programs cannot be run on this machine"


def _fault(limits: CodeLimits) -> str:
    sandbox = Sandbox(
        [PROGRAM],
        files={PROGRAM: _TRIAL},
        limits=limits,
        stdin=str(limits.processes + 1),
    )
    with closing(sandbox):
        sandbox.wait_until_ready()
        output = WatchedOutput(sandbox, [sandbox], limits, most_bytes=1 << 12)
        told = output.line()
        is_seen = sandbox.usage().memory_bytes > 0
    if told is None:
        return "a trial program ended without a word"
    if told != b"holds":
        return told.decode("utf-8", "replace")
    return "" if is_seen else "its processes cannot be seen in /proc"
