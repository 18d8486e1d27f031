"""The model's program as a server: it is run, and then asked to call what it has defined.

    python -m rllib_dapo.envs.code.inside.call_server PROGRAM REQUESTS_FD REPLIES_FD

Nothing here is trusted by whoever asks: the program may change all of it, and has nothing of it
but the arguments of calls.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from types import ModuleType
from typing import Any

from rllib_dapo.envs.code.inside.plain_values import decode, encode

_LONGEST_ITERATION = 100_000
# Programs for tests that call functions often have no imports: prompts bring them, or their authors
# know them to be there. They stand behind the program's own names, as built-in ones do.
_USUAL_NAMES = ("bisect", "collections", "functools", "heapq", "itertools", "math", "typing")
_USUAL_MODULES = (*_USUAL_NAMES, "random", "re", "string", "sys")


class _Objects:
    """Values of the program that are not plain data, by number."""

    def __init__(self) -> None:
        self._values: list[Any] = []

    def refer(self, value: Any) -> int:
        """Returns the number of a value."""
        self._values.append(value)
        return len(self._values) - 1

    def resolve(self, number: int) -> Any:
        """Returns the value of a number."""
        return self._values[number]


def main() -> None:
    """Serves until nobody asks any more."""
    path, requests_descriptor, replies_descriptor = sys.argv[1], *map(int, sys.argv[2:4])
    requests = os.fdopen(requests_descriptor, "rb")
    replies = os.fdopen(replies_descriptor, "wb", buffering=0)

    module = ModuleType("program")
    module.__dict__["__file__"] = path
    sys.modules["program"] = module
    module.__dict__["__builtins__"] = _usual_names() | vars(builtins)
    objects = _Objects()
    failure = _attempt(partial(_run, path, module))

    for line in requests:
        reply = failure
        if "error" not in failure:
            reply = _attempt(partial(_answer, json.loads(line), module, objects))
        replies.write(json.dumps(reply).encode() + b"\n")


def _usual_names() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for module in map(importlib.import_module, _USUAL_NAMES):
        listed = getattr(module, "__all__", [name for name in dir(module) if name[0] != "_"])
        names |= {name: getattr(module, name) for name in listed}
    return names | {name: importlib.import_module(name) for name in _USUAL_MODULES}


def _run(path: str, module: ModuleType) -> None:
    with open(path, encoding="utf-8") as file:
        source = file.read()
    exec(compile(source, path, "exec"), module.__dict__)


def _attempt(function: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": function()}
    except BaseException as error:
        return {"error": type(error).__name__, "text": str(error)[:200]}


def _answer(request: dict[str, Any], module: ModuleType, objects: _Objects) -> Any:
    target = request["target"]
    value = _find(module, target) if isinstance(target, str) else objects.resolve(target)

    match request["do"]:
        case "call":
            arguments = [decode(one, objects.resolve) for one in request["arguments"]]
            named = {k: decode(v, objects.resolve) for k, v in request["named"].items()}
            value = value(*arguments, **named)
        case "attribute":
            value = getattr(value, request["name"])
        case "item":
            value = value[decode(request["key"], objects.resolve)]
        case "length":
            value = len(value)
        case "elements":
            elements: Iterator[Any] = islice(iter(value), _LONGEST_ITERATION)
            value = list(elements)
        case "text":
            value = str(value)
        case "value":
            pass
    return encode(value, objects.refer)


def _find(module: ModuleType, name: str) -> Any:
    """Returns what the program calls so, or a method of its class `Solution` (LeetCode's form)."""
    if name in module.__dict__:
        return module.__dict__[name]
    solution = module.__dict__.get("Solution")
    if solution is not None and hasattr(solution, name):
        return getattr(solution(), name)
    raise NameError(f"the program defines no {name}")


if __name__ == "__main__":
    main()
