"""The source of rewards that runs a model's program against the tests of its problem."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.code.bubblewrap import SandboxFailed
from rllib_dapo.envs.code.code_limits import CodeLimits, read_limits
from rllib_dapo.envs.code.problem_tests import read_tests
from rllib_dapo.envs.code.program_text import last_program
from rllib_dapo.envs.code.run_tests import BrokenTestError, results_of_tests
from rllib_dapo.envs.code.sandbox import START_SECONDS
from rllib_dapo.envs.code.sandbox_trial import try_sandbox
from rllib_dapo.envs.env_settings import check_choice, check_integer
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, missing

CODE_OPTIONS: Final = (
    *("cpu_seconds", "wall_seconds", "memory_mib", "processes", "output_kib"),
    *("max_tests", "partial"),
)
LANGUAGES: Final = ("python",)


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeReward:
    """Judges a response by its program.

    Attributes:
        limits: What a program may take for one test.
        max_tests: How many of a problem's tests are run, the first ones.
        partial: Whether the reward is the share of tests that pass; otherwise a program that passes
            them all is correct, and any other is wrong.
    """

    limits: CodeLimits
    max_tests: int
    partial: bool

    @property
    def longest_seconds(self) -> float:
        """Time within which a verdict has come, whatever a program does."""
        return self.max_tests * (self.limits.wall_seconds + 2 * START_SECONDS)

    def __call__(self, problem: Problem, response: str) -> Verdict:
        """Runs the response's program.

        Whatever the program does is right or wrong. The verdict is missing only if a sandbox cannot
        be started, or if the tests are at fault.
        """
        try:
            tests = read_tests(problem.answer, problem.text)[: self.max_tests]
        except ValueError as error:
            return missing(MissingReason.CRASH, f"the problem's tests: {error}")
        program = last_program(response)
        if program is None:
            return self._verdict(0, len(tests), "no program in the response")

        passed, reason = 0, ""
        try:
            with closing(results_of_tests(program, tests, self.limits)) as results:
                for result in results:
                    passed += result.passed
                    reason = reason or result.reason
                    if not result.passed and not self.partial:
                        break
        except BrokenTestError as error:
            return missing(MissingReason.CRASH, f"the problem's tests: {error}")
        except SandboxFailed as error:
            return missing(MissingReason.CRASH, f"no sandbox: {error}")
        return self._verdict(passed, len(tests), reason)

    def _verdict(self, passed: int, number: int, reason: str) -> Verdict:
        is_correct = passed == number
        share = passed / number if self.partial else None
        return Verdict(is_correct=is_correct, reward=share, reason=reason)


def fault_of_tests(problem: Problem) -> str:
    """Returns why a problem's tests cannot be run, in one line; empty if they can be."""
    try:
        read_tests(problem.answer, problem.text)
    except ValueError as error:
        return str(error)
    return ""


def code_reward(setting: str, language: Any, **options: Any) -> CodeReward:
    """Returns a source of rewards that runs programs, after a trial of the sandbox.

    Args:
        setting: Name of the setting, for messages.
        language: "python".
        **options: See `CodeReward` and `CodeLimits`.

    Raises:
        ValueError: If the language or an option is refused, or if there is no sandbox that holds.
    """
    check_choice(setting, language, LANGUAGES)
    limits = read_limits(setting, _of_limits(options))
    max_tests = check_integer(f"{setting}.max_tests", options.get("max_tests", 50), low=1)
    partial = options.get("partial", False)
    if not isinstance(partial, bool):
        raise ValueError(f"{setting}.partial={partial!r}: must be true or false")

    if fault := try_sandbox(limits):
        raise ValueError(f"{setting}={language!r}: {fault}")
    return CodeReward(limits=limits, max_tests=max_tests, partial=partial)


def _of_limits(options: Mapping[str, Any]) -> dict[str, Any]:
    own = ("max_tests", "partial")
    return {name: value for name, value in options.items() if name not in own}
