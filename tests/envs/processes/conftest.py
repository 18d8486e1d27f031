"""A small service that does as it is told, in a module that only a child can import."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_dapo.envs.processes.killable_process import Program

SERVICE = """
import os, subprocess, sys, time

from rllib_dapo.envs.processes.service import Refused, Service


class Obedient(Service):
    def __init__(self, refuse="", end=None):
        if refuse:
            raise Refused(refuse)
        if end is not None:
            os._exit(end)
        self.loaded, self.kept = [], []

    def load(self, content):
        if content == "nothing":
            raise ImportError("no such thing")
        self.loaded.append(content)

    def call(self, content):
        do = content["do"]
        if do == "hang":
            time.sleep(1000)
        elif do == "exit":
            os._exit(3)
        elif do == "raise":
            raise RuntimeError("what\\nis this")
        elif do == "keep":
            self.kept.append(bytearray(content["bytes"]))
        elif do == "print":
            os.write(1, b"{}\\n")
            print("[1]", sys.stdin.read(), flush=True)
        elif do == "spawn":
            return subprocess.Popen(["sleep", "1000"]).pid
        elif do == "object":
            return object()
        elif do == "environ":
            return os.environ.get(content["name"])
        return {"pid": os.getpid(), "loaded": self.loaded, **content}
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Program]:
    """Makes programs that run the service."""
    (tmp_path / "obedient.py").write_text(SERVICE)

    path = (str(tmp_path), *(entry for entry in sys.path if entry))
    return lambda **given: Program(service="obedient:Obedient", path=path, **given)
