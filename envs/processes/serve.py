"""The child's side: a loop that makes a service and has it do what is asked.

`KillableProcess` starts this file as a script. Requests come as lines of JSON on standard input,
and replies go as lines of JSON to what was standard output; whatever a service prints goes to
standard error. Each call is replied to before the next one begins, so whoever started this process
always knows which call it is at.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from rllib_dapo.envs.processes.service import Service

_PR_SET_PDEATHSIG = 1
_LONGEST_ERROR = 300  # characters


class _LightPackage(ModuleType):
    """A package whose `__init__` runs only when something is asked of the package itself.

    Its modules can be imported before that. Importing `rllib_dapo.envs` as a whole brings
    Gymnasium and NumPy, which an answer rule does not need.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__spec__ is None or self.__spec__.loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

        self.__class__ = ModuleType  # type: ignore[assignment]  # an ordinary package from here on
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


class _Memory:
    """Bounds the address space of this process.

    Args:
        allowance: Bytes that calls may take beyond what was held when the last `load` was over.
        total: Bytes that this process may hold altogether. At most one of the two is given.
    """

    def __init__(self, *, allowance: int | None, total: int | None) -> None:
        self._allowance, self._total = allowance, total
        self._hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        self._held = 0

    def bound(self) -> None:
        """Sets the bound, counting from what is held now."""
        if self._total is not None:
            self._set(self._total)
        elif self._allowance is not None:
            self._held = _address_space()
            self._set(self._held + self._allowance)

    def lift(self) -> None:
        """Lifts the bound while the service loads something."""
        if self._allowance is not None:
            self._set(self._hard)

    def is_half_used(self) -> bool:
        """Whether calls have left so much behind that an innocent one may soon meet the bound."""
        if self._allowance is None:
            return False
        return _address_space() - self._held > self._allowance // 2

    def _set(self, most: int) -> None:
        within_hard = most if self._hard == resource.RLIM_INFINITY else min(most, self._hard)
        resource.setrlimit(resource.RLIMIT_AS, (within_hard, self._hard))


def main() -> None:
    """Does what is asked until the other side closes the pipe."""
    requests, replies = _take_pipes()
    hello = json.loads(requests.readline())

    # The child must not outlive its parent, nor look for modules in other places than it does.
    _end_with(hello["parent"])
    sys.path[:] = hello["path"]
    for name, folder in hello["packages"].items():
        _add_light_package(name, Path(folder))

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    service = _make_service(hello["service"], hello["settings"], replies)
    memory = _Memory(allowance=hello["memory_allowance"], total=hello["memory_total"])
    memory.bound()
    replies.write(_line({"ready": True}))

    for line in requests:
        request = json.loads(line)
        if "load" in request:
            memory.lift()
            replies.write(_reply_to(service.load, request["load"], None))
            memory.bound()

        calls = request.get("calls", ())
        service.begin(calls)
        for number, content in enumerate(calls, start=1):
            # Looking at the memory costs more than a quick call, so once for each batch.
            looked_at = memory if number == len(calls) else None
            replies.write(_reply_to(service.call, content, looked_at))


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Moves the pipes away from where a service reads and prints."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _end_with(parent: int) -> None:
    """Asks the kernel to end this process with its parent, even in the middle of a call."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit()


def _add_light_package(name: str, folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is not None:
        package = importlib.util.module_from_spec(spec)
        package.__class__ = _LightPackage
        sys.modules[name] = package


def _make_service(reference: str, settings: Mapping[str, Any], replies: BinaryIO) -> Service:
    """Makes the service of a `package.module:Class`; ends this process where it refuses."""
    from rllib_dapo.envs.processes.service import Refused

    module_name, _, class_name = reference.partition(":")
    try:
        make = getattr(importlib.import_module(module_name), class_name)
        service: Service = make(**settings)
    except Refused as error:
        replies.write(_line({"refused": " ".join(str(error).split())}))
        sys.exit()
    return service


def _reply_to(function: Callable[[Any], Any], content: Any, memory: _Memory | None) -> bytes:
    """Returns the reply to a request. Nothing that the service raises gets any further."""
    try:
        value = function(content)
        return _line({"value": value, "is_worn": memory is not None and memory.is_half_used()})
    except MemoryError:
        return _line({"error": "out of memory", "is_out_of_memory": True, "is_worn": True})
    except BaseException as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_ERROR]
        return _line({"error": told, "is_worn": memory is not None and memory.is_half_used()})


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _address_space() -> int:
    """Bytes of address space in use; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0


if __name__ == "__main__":
    main()
