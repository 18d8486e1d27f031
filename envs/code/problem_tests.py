"""The tests of a problem, in the forms in which published data sets have them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from rllib_dapo.envs.code.inside.names_in_tests import free_names, has_assertion, readable_test

KNOWN_FORMS: Final = (
    'inputs and outputs ({"inputs": ["1 2"], "outputs": ["3"]}, with "fn_name" where a function is '
    'called), a list of {"input", "output"}, a list of assertions (["assert add(1, 2) == 3"]), or '
    "a text with them"
)
_DEFINITION = re.compile(r"^[ \t]*def[ \t]+([A-Za-z_]\w*)[ \t]*\(", re.MULTILINE)
_CHECK = re.compile(r"^def check\(", re.MULTILINE)
_CALLS_CHECK = re.compile(r"^check\(", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class StdioTest:
    """What a program prints.

    Attributes:
        stdin: What it reads.
        stdout: What it must print.
    """

    stdin: str
    stdout: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CallTest:
    """What a function returns.

    Attributes:
        function: Its name; it may be a method of a class `Solution`.
        arguments: What it is called with.
        expected: What it must return, as JSON: a tuple is a list.
    """

    function: str
    arguments: tuple[Any, ...]
    expected: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class AssertTest:
    """Statements that must not raise. Names that they do not define are the program's.

    Attributes:
        code: The statements.
    """

    code: str


ProblemTest: TypeAlias = StdioTest | CallTest | AssertTest


def read_tests(answer: str, prompt: str) -> tuple[ProblemTest, ...]:
    """Returns a problem's tests, at least one.

    Args:
        answer: What the problem's ground truth is: JSON, or a text with assertions.
        prompt: The problem's text. Where tests are a function `check(candidate)` (HumanEval) and
            nothing names the candidate, it is the function that the prompt defines last.

    Raises:
        ValueError: If they have no known form; one line.
    """
    try:
        content: Any = json.loads(answer)
    except (ValueError, RecursionError):
        content = answer
    tests = tuple(_tests_in(content, prompt))
    if not tests:
        raise ValueError(f"there is no test in it; known: {KNOWN_FORMS}")
    return tests


def _tests_in(content: Any, prompt: str) -> list[ProblemTest]:
    match content:
        case str(code):
            return [_assertions(code, None, prompt)]
        case {"inputs": list(inputs), "outputs": list(outputs), **others}:
            if len(inputs) != len(outputs):
                raise ValueError(f"{len(inputs)} inputs, but {len(outputs)} outputs")
            function = others.get("fn_name")
            pairs = zip(inputs, outputs, strict=True)
            return [_one(given, expected, function) for given, expected in pairs]
        case {"test_list": list(codes), **others}:
            setup = str(others.get("test_setup_code") or "")
            lines: Any = others.get("test_imports") or ()
            before = "".join(f"{line}\n" for line in (*map(str, lines), setup) if line)
            return [_assertions(f"{before}{code}", None, prompt) for code in codes]
        case {"test": str(code), **others}:
            return [_assertions(code, others.get("entry_point"), prompt)]
        case {"tests": tests, **others}:
            return _listed(tests, others.get("fn_name") or others.get("func_name"), prompt)
        case list(tests):
            return _listed(tests, None, prompt)
    raise ValueError(f"no known form of tests; known: {KNOWN_FORMS}")


def _listed(tests: Any, function: Any, prompt: str) -> list[ProblemTest]:
    if not isinstance(tests, list):
        return _tests_in(tests, prompt) if isinstance(tests, str) else _unknown(tests)

    found: list[ProblemTest] = []
    for test in tests:
        match test:
            case str(code):
                found.append(_assertions(code, None, prompt))
            case {"input": given, "output": expected, **others}:
                kind = others.get("testtype", others.get("type"))
                if kind in ("functional", "function_call"):
                    found.append(_lines_called(given, expected, others.get("fn_name") or function))
                else:
                    found.append(_one(given, expected, others.get("fn_name") or function))
            case _:
                return _unknown(test)
    return found


def _one(given: Any, expected: Any, function: Any) -> ProblemTest:
    if function is None:
        return StdioTest(stdin=_as_text(given), stdout=_as_text(expected))
    if not isinstance(given, list):
        raise ValueError(f"the arguments of {function} are not a list: {given!r:.80}")
    return CallTest(function=str(function), arguments=tuple(given), expected=expected)


def _lines_called(given: Any, expected: Any, function: Any) -> CallTest:
    """Reads LiveCodeBench's form: each line is an argument as JSON, and the output is JSON."""
    if not isinstance(function, str):
        raise ValueError('tests that call a function, but no "fn_name" that names it')
    try:
        arguments = tuple(json.loads(line) for line in str(given).splitlines() if line.strip())
        return CallTest(function=function, arguments=arguments, expected=json.loads(str(expected)))
    except (ValueError, RecursionError):
        raise ValueError(f"arguments or a value that are not JSON: {given!r:.80}") from None


def _assertions(code: str, entry_point: Any, prompt: str) -> AssertTest:
    if _CHECK.search(code) and not _CALLS_CHECK.search(code):
        defined = _DEFINITION.findall(prompt)
        name = entry_point if isinstance(entry_point, str) else defined[-1] if defined else None
        if name is None or not name.isidentifier():
            raise ValueError('tests in check(candidate), but no "entry_point" that names it')
        code = f"{code}\n\ncheck({name})\n"

    try:
        tree = readable_test(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise ValueError(f"tests that are not Python: {told}") from None
    # Without one, whatever the program does would be right.
    if not has_assertion(tree):
        raise ValueError(f"no assertion that is run in {code!r:.80}; known: {KNOWN_FORMS}")
    if not free_names(tree):
        raise ValueError(f"a test that uses nothing that a program defines: {code!r:.80}")
    return AssertTest(code=code)


def _as_text(value: Any) -> str:
    """Returns lines that a file keeps as a list as one text."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return "\n".join(str(line) for line in value)
    if isinstance(value, Mapping) or value is None:
        raise ValueError(f"an input or output that is not a text: {value!r:.80}")
    return str(value)


def _unknown(test: Any) -> list[ProblemTest]:
    raise ValueError(f"a test of an unknown form: {test!r:.80}; known: {KNOWN_FORMS}")
