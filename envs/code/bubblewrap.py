"""The command that starts bubblewrap's sandbox: what a program sees of the machine, and may do."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from rllib_dapo.envs.code.code_limits import SCRATCH_BYTES

INSIDE: Final = "/sandbox/rllib_dapo/envs/code/inside"
_SCRIPTS = Path(__file__).with_name("inside")
_LIBRARIES = ("/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM_PREFIXES = ("/usr", "/usr/local")
_NAMESPACES = ("ipc", "pid", "net", "uts", "cgroup-try")
_NOBODY = "65534"


class SandboxFailed(Exception):
    """The sandbox could not be started: not the fault of the program that was to run in it."""


def interpreter() -> Path:
    """Returns the path of the Python that this process runs, outside of any virtual environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = Path(sys.base_exec_prefix, "bin", version)
    return own if own.is_file() else Path(sys.executable).resolve()


def is_machines_root() -> bool:
    """Whether this process is root to the kernel, rather than in a user namespace alone."""
    users = Path("/proc/self/uid_map").read_text().split()
    return os.geteuid() == 0 and users == ["0", "0", str(2**32 - 1)]


def bubblewrap_command(python: Path) -> list[str]:
    """Returns the command that starts a sandbox, up to what runs in it.

    Args:
        python: The interpreter.

    Raises:
        SandboxFailed: If bubblewrap is not installed.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxFailed("bubblewrap is not installed")

    command = [program, "--die-with-parent", "--as-pid-1", "--new-session", "--clearenv"]
    command += [f"--unshare-{namespace}" for namespace in _NAMESPACES]
    if is_machines_root():
        # No user namespace: in one, root's processes stay root's to the kernel, which bounds no
        # number of them. The program becomes another user instead, for which two rights are kept.
        command += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY]

    command += [*_system_libraries(), *_python(python), *_bound(_SCRIPTS, at=Path(INSIDE))]
    command += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    command += ["--perms", "1777", "--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp"]
    return [*command, "--remount-ro", "/", "--chdir", "/tmp"]


def _system_libraries() -> list[str]:
    command = _bound(Path("/usr/lib"))
    for folder in map(Path, _LIBRARIES):
        if folder.is_symlink():
            command += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            command += _bound(folder)
    for path in map(Path, ("/usr/lib64", "/etc/ld.so.cache")):
        command += _bound(path) if path.exists() else []
    return command


def _python(python: Path) -> list[str]:
    """Binds Python with its own library, and covers the packages that somebody has installed.

    So programs find the same on every machine, and start in half the time.
    """
    prefix = python.parents[1]
    # Of a system's Python, no more than that.
    of_system = str(prefix) in _SYSTEM_PREFIXES
    command = [*_bound(prefix / "lib"), *_bound(python)] if of_system else _bound(prefix)

    library = prefix / "lib" / python.name
    places = [library / "site-packages", library / "dist-packages"]
    for packages in (*places, Path("/usr/lib/python3/dist-packages")):
        if os.path.isdir(packages):  # False also where nobody may look
            command += ["--tmpfs", str(packages), "--remount-ro", str(packages)]
    return command


def _bound(path: Path, *, at: Path | None = None) -> list[str]:
    """Binds a path, at its own place or another, below folders that everybody may pass through."""
    place = at or path
    command = []
    for folder in reversed(place.parents[:-1]):
        command += ["--perms", "0755", "--dir", str(folder)]
    return [*command, "--ro-bind", str(path), str(place)]
