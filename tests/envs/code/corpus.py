"""The hostile programs, and a place outside of the sandbox that none of them may change."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("hostile_programs.txt")
SECRET = "the secret of the canary"


@dataclass(frozen=True, kw_only=True)
class HostileProgram:
    name: str
    is_called: bool
    is_right: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A tree of files, listening sockets and a process."""

    tree: Path
    port: int
    process: subprocess.Popen[bytes]
    sockets: tuple[socket.socket, ...]

    def filled_in(self, text: str) -> str:
        """A program with the names of what it attacks."""
        values = {"@TREE@": self.tree, "@PORT@": self.port, "@PID@": self.process.pid}
        for name, value in values.items():
            text = text.replace(name, str(value))
        return text

    def state(self) -> dict[str, object]:
        """Everything that a program could have changed."""
        visitors = []
        for listener in self.sockets:
            with contextlib.suppress(BlockingIOError):
                visitors.append(
                    listener.recv(16) if listener.type == socket.SOCK_DGRAM else listener.accept()
                )
        files = {
            str(path): (path.read_bytes() if path.is_file() else None, path.lstat().st_mtime_ns)
            for path in sorted([self.tree, *self.tree.rglob("*")])
            if path.exists()
        }
        ended, pid = self.process.poll(), self.process.pid
        return {
            "files": files,
            "visitors": visitors,
            "process ended": ended,
            "priority": None if ended else os.getpriority(os.PRIO_PROCESS, pid),
            "host": socket.gethostname(),
            "mounts": Path("/proc/self/mounts").read_text(),
            "scratch": sorted(name for name in os.listdir("/tmp") if _is_ours(name)),
        }


def hostile_programs() -> list[HostileProgram]:
    """All programs, in the order of the file."""
    _, *parts = FILE.read_text(encoding="utf-8").split("### ")
    programs = []
    for part in parts:
        title, _, text = part.partition("\n")
        name, *marks = (word.strip() for word in title.split("|"))
        programs.append(
            HostileProgram(
                name=name, is_called="called" in marks, is_right="right" in marks, text=text
            )
        )
    return programs


@contextlib.contextmanager
def canary(folder: Path) -> Iterator[Canary]:
    """Makes the place. Everybody may write into the tree: only the sandbox is in the way."""
    tree = folder / "canary"
    (tree / "below").mkdir(parents=True)
    for name, text in (("canary.txt", "sings"), ("secret.txt", SECRET), ("below/a.txt", "a")):
        (tree / name).write_text(text)
    for path in (tree, *tree.rglob("*"), *tree.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o777)

    with contextlib.ExitStack() as stack:
        tcp, udp, unix, abstract = (
            stack.enter_context(socket.socket(family, kind))
            for family, kind in (
                (socket.AF_INET, socket.SOCK_STREAM),
                (socket.AF_INET, socket.SOCK_DGRAM),
                (socket.AF_UNIX, socket.SOCK_STREAM),
                (socket.AF_UNIX, socket.SOCK_STREAM),
            )
        )
        tcp.bind(("0.0.0.0", 0))
        port = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        with contextlib.chdir(tree):  # a socket's whole path may be too long
            unix.bind("socket")
        (tree / "socket").chmod(0o777)
        abstract.bind(f"\0rllib-dapo-canary-{port}")
        for listener in (tcp, unix, abstract):
            listener.listen()
        for one in (tcp, udp, unix, abstract):
            one.setblocking(False)

        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
            )
        )
        stack.callback(process.kill)
        yield Canary(tree=tree, port=port, process=process, sockets=(tcp, udp, unix, abstract))


def _is_ours(name: str) -> bool:
    """Whether a name in the machine's /tmp is one that the programs use in their scratch folder."""
    return name in {"large", "out", "python", "inner", "jail", "disk", "file0", "program.py"}
