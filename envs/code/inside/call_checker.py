"""Runs tests that call functions, in a sandbox of their own; the program is in another one.

    python -m rllib_dapo.envs.code.inside.call_checker TESTS REQUESTS_FD REPLIES_FD

Writes one line of JSON for each test: `passed`, and `reason` where it is not; `broken` where the
test itself is at fault.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rllib_dapo.envs.code.inside.names_in_tests import free_names, functions_to_call, readable_test
from rllib_dapo.envs.code.inside.remote_program import (
    RemoteProgram,
    RemoteValue,
    UnsendableValue,
)


class _BrokenTest(Exception):
    """A test that no program could pass or fail."""


def main() -> None:
    """Runs the tests in their order."""
    path, requests, replies = sys.argv[1], *map(int, sys.argv[2:4])
    # What a test prints must not be taken for a result.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    program = RemoteProgram(os.fdopen(requests, "wb"), os.fdopen(replies, "rb"))
    with open(path, encoding="utf-8") as file:
        tests = json.load(file)
    for test in tests:
        print(json.dumps(_result(test, program)), file=results, flush=True)


def _result(test: dict[str, Any], program: RemoteProgram) -> dict[str, Any]:
    try:
        if "call" in test:
            _check_call(test, program)
        else:
            _check_assertions(test["code"], program)
    except (_BrokenTest, UnsendableValue) as error:
        return {"passed": False, "broken": f"{type(error).__name__}: {error}".lstrip("_")[:200]}
    except BaseException as error:
        return {"passed": False, "reason": f"{type(error).__name__}: {error}"[:200]}
    return {"passed": True}


def _check_call(test: dict[str, Any], program: RemoteProgram) -> None:
    value = _as_json(RemoteValue(program, test["call"])(*test["arguments"]))
    expected = test["expected"]
    # Some files wrap the expected value in a list, as one of several that would be right.
    is_right = value == expected or (
        isinstance(expected, list) and len(expected) == 1 and value == expected[0]
    )
    if not is_right:
        raise AssertionError("another value than expected")


def _as_json(value: Any) -> Any:
    """Returns a value as it is written in a file of tests: tuples are lists, keys are texts."""
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _as_json(one) for key, one in value.items()}
    return value


def _check_assertions(code: str, program: RemoteProgram) -> None:
    try:
        tree = readable_test(code)
        compiled = compile(tree, "tests", "exec")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise _BrokenTest(f"the test cannot be read: {error}") from None
    # Asked for here: a program that does not define one of them is wrong, whatever the test does.
    names = {name: program.ask("value", name) for name in sorted(free_names(tree))}
    namespace: dict[str, Any] = {"__name__": "tests", **names}
    exec(compiled, namespace)
    for name in functions_to_call(tree):
        namespace[name]()


if __name__ == "__main__":
    main()
