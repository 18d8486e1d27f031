"""Runs one program against tests, and says which it passes."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from rllib_dapo.envs.code.code_limits import CodeLimits
from rllib_dapo.envs.code.output_match import is_expected_output
from rllib_dapo.envs.code.problem_tests import CallTest, ProblemTest, StdioTest
from rllib_dapo.envs.code.sandbox import PROGRAM, Sandbox
from rllib_dapo.envs.code.watched_run import LimitPassed, WatchedOutput

_TESTS = "/tmp/tests.json"
_MODULES = "rllib_dapo.envs.code.inside"
_REPORT_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeOfTest:
    """What came of one test.

    Attributes:
        passed: Whether the program is right about it.
        reason: Why it is not, in one line.
        ends_run: Whether the program is not run any more: it passed a limit or is gone.
    """

    passed: bool
    reason: str = ""
    ends_run: bool = False


class BrokenTestError(Exception):
    """A test that no program could pass or fail: not the program's fault."""


def results_of_tests(
    program: str, tests: Sequence[ProblemTest], limits: CodeLimits
) -> Generator[OutcomeOfTest, None, None]:
    """Runs tests in their order; whoever has seen enough stops asking.

    Args:
        program: The program's text.
        tests: The tests.
        limits: What it may take for each of them.

    Yields:
        A result for each test, up to one that ends the run.

    Raises:
        SandboxFailed: If a sandbox cannot be started.
        BrokenTestError: If a test is at fault.
    """
    called = [test for test in tests if not isinstance(test, StdioTest)]
    for test in tests:
        if isinstance(test, StdioTest):
            result = _stdio_result(program, test, limits)
            yield result
            if result.ends_run:
                return
    if called:
        yield from _call_results(program, called, limits)


def _stdio_result(program: str, test: StdioTest, limits: CodeLimits) -> OutcomeOfTest:
    sandbox = Sandbox([PROGRAM], files={PROGRAM: program}, limits=limits, stdin=test.stdin)
    with closing(sandbox):
        sandbox.wait_until_ready()
        most = (limits.output_kib << 10) + 2 * len(test.stdout.encode("utf-8", "surrogatepass"))
        output = WatchedOutput(sandbox, [sandbox], limits, most_bytes=most)
        try:
            printed = output.everything()
            # Whatever still runs has closed its output, and can print nothing more.
            status = output.end(sandbox)
        except LimitPassed as passed:
            return OutcomeOfTest(passed=False, reason=str(passed), ends_run=True)

    if status != 0:
        return OutcomeOfTest(passed=False, reason=f"the program ended with status {status}")
    if not is_expected_output(printed.decode("utf-8", "replace"), test.stdout):
        return OutcomeOfTest(passed=False, reason="another output than expected")
    return OutcomeOfTest(passed=True)


def _call_results(
    program: str, tests: Sequence[ProblemTest], limits: CodeLimits
) -> Generator[OutcomeOfTest, None, None]:
    """Runs a program in one sandbox, and the tests that call it in another."""
    with ExitStack() as stack:
        channels = [os.pipe(), os.pipe()]
        (to_read, to_write), (from_read, from_write) = channels
        open_ends = [end for channel in channels for end in channel]
        stack.callback(_close, open_ends)

        # The tests come first: nothing that the program does can keep them from starting.
        checker = Sandbox(
            ["-m", f"{_MODULES}.call_checker", _TESTS, str(to_write), str(from_read)],
            files={_TESTS: json.dumps([_as_content(test) for test in tests])},
            limits=limits,
            num_tests=len(tests),
            channels=(to_write, from_read),
        )
        stack.enter_context(closing(checker))
        checker.wait_until_ready()
        server = Sandbox(
            ["-m", f"{_MODULES}.call_server", PROGRAM, str(to_read), str(from_write)],
            files={PROGRAM: program},
            limits=limits,
            num_tests=len(tests),
            channels=(to_read, from_write),
        )
        stack.enter_context(closing(server))
        # With these ends open here, neither side would notice that the other one has ended.
        _close(open_ends)

        server.wait_until_ready()
        output = WatchedOutput(checker, [server, checker], limits, most_bytes=_REPORT_BYTES)
        for _ in tests:
            try:
                result = _read_result(output.line())
            except LimitPassed as passed:
                result = OutcomeOfTest(passed=False, reason=str(passed), ends_run=True)
            yield result
            if result.ends_run:
                return
            output.begin_test()


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


def _as_content(test: ProblemTest) -> dict[str, Any]:
    if isinstance(test, CallTest):
        arguments = list(test.arguments)
        return {"call": test.function, "arguments": arguments, "expected": test.expected}
    assert not isinstance(test, StdioTest)
    return {"code": test.code}


def _read_result(line: bytes | None) -> OutcomeOfTest:
    """Reads a line of `call_checker`, which no program has been near."""
    if line is None:  # what the program returned was too much for its tests, as an endless text is
        return OutcomeOfTest(passed=False, reason="the tests ended early", ends_run=True)
    match json.loads(line):
        case {"passed": True}:
            return OutcomeOfTest(passed=True)
        case {"broken": str(reason)}:
            raise BrokenTestError(reason)
        case {"reason": str(reason)}:
            return OutcomeOfTest(passed=False, reason=reason)
    raise BrokenTestError("a result that makes no sense")
