"""Problems that may be solved with the help of a calculator."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from rllib_dapo.envs.calculator.arithmetic_parser import CalculatorError, calculate, write_number
from rllib_dapo.envs.env_settings import check_choice, check_template
from rllib_dapo.envs.single_step_env import make_single_step_env, scored_turn
from rllib_dapo.envs.tools import Tool, ToolCall
from rllib_dapo.envs.tools_env import ToolsEnv, function_tool
from rllib_dapo.envs.turns import Turn, TurnsEnv

_MAX_CALL_CHARACTERS = 10_000  # where in a response a call may stand
_EXPLAINED = (
    "{problem}\n\nYou may use a calculator: end your message with a call such as "
    "<calculator>12*7</calculator> and read the result in the next one. A message without "
    "a call is your final answer."
)
_RESULT = "<result>{result}</result>"
CALCULATOR = function_tool(
    "calculator",
    "Compute the exact value of an arithmetic expression.",
    {"expression": {"type": "string", "description": "Numbers and + - * / ^ ( ), as in 12*7"}},
)


class CalculatorMathEnv(ToolsEnv):
    """Poses the problems of another environment, and lets the model call a calculator.

    After a response that holds `<calculator>12*7</calculator>` the model reads the value and goes
    on; a response without a call is the final answer, which the other environment scores. Instead
    of the value of an expression that has none, the model reads what is wrong with it. The
    calculator parses expressions itself and knows nothing but numbers and `+ - * / ^ ( )`.

    With `calls: native` the calculator is a tool that the model's chat template declares, and the
    model calls it in its own format (`rollout.tool_call_parser`).

    Settings, with their defaults:
        problems: "rllib_dapo/Arithmetic-v0"; the environment that poses and scores, a
            `SingleStepTextEnv`.
        problem_config: {}; its settings.
        calls: "text"; how the model calls: "text" with the marks below, "native" in its own format.
        template: How the tool is explained; "{problem}" is the other environment's prompt, and must
            be in it. None: with a sentence on the marks; with native calls, not at all.
        call_open, call_close: "<calculator>" and "</calculator>"; the marks around an expression.
        result_template: What the model reads after a call; "{result}" must be in it. None: the
            result in `<result>` marks; with native calls, the result alone.
        max_turns: 4; an episode without a final answer after this many responses is a failure.
        success_at: None; if set, an episode whose reward is at least this is a success, whatever
            the scorer says.

    Raises:
        ValueError: If a setting is refused, by this environment or by the other.
    """

    default_settings: ClassVar[Mapping[str, Any]] = {
        **TurnsEnv.default_settings,
        "max_turns": 4,
        "problems": "rllib_dapo/Arithmetic-v0",
        "problem_config": None,
        "calls": "text",
        "template": None,
        "call_open": "<calculator>",
        "call_close": "</calculator>",
        "result_template": None,
    }

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        given = self.settings
        self._is_native = check_choice("calls", given["calls"], ("text", "native")) == "native"
        by_default = ("{problem}", "{result}") if self._is_native else (_EXPLAINED, _RESULT)
        self._template, self._result_template = (
            check_template(name, default if given[name] is None else given[name], field)
            for name, field, default in zip(
                ("template", "result_template"), ("problem", "result"), by_default, strict=True
            )
        )
        for name in ("call_open", "call_close"):
            if not isinstance(given[name], str) or not given[name]:
                raise ValueError(f"{name}={given[name]!r}: must be a text that is not empty")

        self._open, self._close = given["call_open"], given["call_close"]
        self._problems = make_single_step_env(given["problems"], given["problem_config"])
        self._seed = 0

    def fork(self) -> Self:
        """Returns an environment for another episode, with the same problems behind it."""
        return copy.copy(self)

    def begin(self, seed: int) -> str:
        """Writes the problem of the seed into the template."""
        self._seed = seed
        return self._template.format(problem=self._problems.problem(seed).prompt)

    def tools(self) -> list[Tool]:
        """Returns the calculator, if the model calls it in its own format."""
        return [CALCULATOR] if self._is_native else []

    def call(self, call: ToolCall) -> str:
        """Returns the value of the expression, or what is wrong with it."""
        return self._result_template.format(result=result_of(call.arguments["expression"]))

    def turn(self, response: str) -> Turn:
        """Returns the result of a call, or has the final answer scored."""
        return super().turn(response) if self._is_native else self.answer(response)

    def answer(self, response: str) -> Turn:
        """The same of a response without native calls, which may hold one in marks."""
        expression = None if self._is_native else self._called(response)
        if expression is None:
            return scored_turn(self._problems, self._seed, response)

        # Cut off here, the episode is a failure: there is no final answer.
        result = self._result_template.format(result=result_of(expression))
        return Turn(observation=result, is_correct=False, done=False)

    def close(self) -> None:
        """Closes the environment of the problems."""
        self._problems.close()
        super().close()  # type: ignore[no-untyped-call]  # Gymnasium's

    def _called(self, response: str) -> str | None:
        """Returns the expression of the last call; what comes before it is thought aloud."""
        _, opened, rest = response[:_MAX_CALL_CHARACTERS].rpartition(self._open)
        expression, closed, _ = rest.partition(self._close)
        return expression if opened and closed else None


def result_of(expression: str) -> str:
    """Returns the value of an expression as text, or `error: ` and what is wrong with it."""
    try:
        return write_number(calculate(expression))
    except CalculatorError as error:
        return f"error: {error}"
