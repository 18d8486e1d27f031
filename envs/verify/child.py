"""What runs in a verifier's own process: rules, and nothing of Ray, torch or the environments.

`process.VerifierProcess` starts this file as a script. Requests come as lines of JSON on standard
input and replies go as lines of JSON to what was standard output; whatever a scorer prints goes to
standard error. A reply is sent as soon as there is one, so whoever started this process always
knows which call it is at.
"""

from __future__ import annotations

import base64
import ctypes
import importlib.util
import json
import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from rllib_dapo.envs.verify.verdict import Verdict

_PR_SET_PDEATHSIG = 1
_LONGEST_TEXT = 300
_HARMLESS = (
    r"\boxed{1}",
    r"\frac{2}{2}",
)  # neither the same text nor two integers: a rule has to load what it needs


class _LightPackage(ModuleType):
    """A package whose modules can be imported; its own ``__init__`` runs only when something of it is asked for.

    ``import rllib_dapo`` brings Ray and torch: seconds and hundreds of megabytes that no rule
    needs.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__spec__ is None or self.__spec__.loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]  # from here on an ordinary package
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


class _Memory:
    """Bounds what this process may take beyond what it held when its last rule was loaded."""

    def __init__(self, allowance: int) -> None:
        self._allowance = allowance
        self._hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        self._held = 0
        self.bound()

    def bound(self) -> None:
        """Bounds the address space by what is held now and the allowance."""
        self._held = _address_space()
        most = self._held + self._allowance
        resource.setrlimit(
            resource.RLIMIT_AS, (most if self._hard < 0 else min(most, self._hard), self._hard)
        )

    def unbind(self) -> None:
        """Lifts the bound, for loading a rule: what that takes is the rule's, not a response's."""
        resource.setrlimit(resource.RLIMIT_AS, (self._hard, self._hard))

    def is_half_used(self) -> bool:
        """Whether calls have left so much behind that an innocent one may soon meet the bound."""
        return _address_space() - self._held > self._allowance // 2


def main() -> None:
    """Answers requests until there are no more."""
    requests, replies = _take_pipes()
    hello = json.loads(requests.readline())
    _end_with(hello["parent"])
    sys.path[:] = hello["path"]
    for name, folder in hello["packages"].items():
        _add_light_package(name, Path(folder))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    from rllib_dapo.envs.verify import ANSWER_RULES

    memory = _Memory(hello["memory"])
    rules: dict[str, Callable[..., Any]] = dict(ANSWER_RULES)
    for line in requests:
        request = json.loads(line)
        if "load" in request:
            memory.unbind()
            _reply(replies, {"error": _load(rules, request["load"], request["function"])})
            memory.bound()
        for number, (name, arguments) in enumerate(request.get("calls", ()), start=1):
            verdict, is_out_of_memory = _score(rules[name], arguments)
            is_worn = is_out_of_memory or (
                number == len(request["calls"]) and memory.is_half_used()
            )
            _reply(replies, {"verdict": verdict, "is_worn": is_worn})


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Moves the pipes away from where scorers read and print."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def _end_with(parent: int) -> None:
    """Asks the kernel to end this process with its parent, also in the middle of a call."""
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


def _address_space() -> int:
    """Bytes of address space in use; 0 where the system does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0


def _load(rules: dict[str, Callable[..., Any]], name: str, function: str) -> str:
    """Makes a rule ready, and says why if that fails; a rule of ours is tried out once, which brings its library."""
    try:
        if function:
            # Pickled by whoever started this process: no text of a model has been near it.
            rules[name] = pickle.loads(base64.b64decode(function))
        else:
            rules[name](*_HARMLESS)
    except BaseException as error:
        return _one_line(error)
    return ""


def _score(rule: Callable[..., Any], arguments: list[Any]) -> tuple[dict[str, Any], bool]:
    """Returns the verdict, and whether memory ran out on the way. Nothing that a scorer raises gets any further."""
    from rllib_dapo.envs.verify.verdict import MissingReason, missing

    try:
        return _as_content(_as_verdict(rule(*arguments))), False
    except MemoryError:
        return _as_content(missing(MissingReason.CRASH, "out of memory")), True
    except BaseException as error:
        return _as_content(
            missing(MissingReason.CRASH, f"the scorer raised {_one_line(error)}")
        ), False


def _as_verdict(value: Any) -> Verdict:
    from rllib_dapo.envs.verify.verdict import Verdict

    value = value.item() if hasattr(value, "item") else value  # numpy's and torch's scalars
    if isinstance(value, Verdict):
        return value
    if isinstance(value, bool):
        return Verdict(is_correct=value)
    if isinstance(value, int | float):
        return Verdict(is_correct=None, reward=float(value))
    raise TypeError(
        f"a scorer must return a Verdict, a bool or a number, not {type(value).__name__}"
    )


def _as_content(verdict: Verdict) -> dict[str, Any]:
    return {
        "is_correct": None if verdict.is_correct is None else bool(verdict.is_correct),
        "reward": None if verdict.reward is None else float(verdict.reward),
        "prediction": str(verdict.prediction)[:_LONGEST_TEXT],
        "reason": str(verdict.reason)[:_LONGEST_TEXT],
        "components": {str(name): float(value) for name, value in verdict.components.items()},
    }


def _reply(replies: BinaryIO, content: Mapping[str, Any]) -> None:
    replies.write(json.dumps(content).encode() + b"\n")


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_TEXT]


if __name__ == "__main__":
    main()
