"""Problems that may be solved with the help of a calculator."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from rllib_dapo.envs.calculator.arithmetic_parser import CalculatorError, calculate, write_number
from rllib_dapo.envs.env_settings import check_template
from rllib_dapo.envs.single_step_env import make_single_step_env
from rllib_dapo.envs.turns import Turn, TurnsEnv

_MAX_CALL_CHARACTERS = 10_000  # where in a response a call may stand


class CalculatorMathEnv(TurnsEnv):
    """Poses the problems of another environment, and lets the model call a calculator.

    After a response that holds `<calculator>12*7</calculator>` the model reads the value and goes
    on; a response without a call is the final answer, which the other environment scores. Instead
    of the value of an expression that has none, the model reads what is wrong with it. The
    calculator parses expressions itself and knows nothing but numbers and `+ - * / ^ ( )`.

    Settings, with their defaults:
        problems: "rllib_dapo/Arithmetic-v0"; the environment that poses and scores, a
            `SingleStepTextEnv`.
        problem_config: {}; its settings.
        template: How the tool is explained; "{problem}" is the other environment's prompt, and must
            be in it.
        call_open, call_close: "<calculator>" and "</calculator>"; the marks around an expression.
        result_template: What the model reads after a call; "{result}" must be in it.
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
        "template": (
            "{problem}\n\nYou may use a calculator: end your message with a call such as "
            "<calculator>12*7</calculator> and read the result in the next one. A message without "
            "a call is your final answer."
        ),
        "call_open": "<calculator>",
        "call_close": "</calculator>",
        "result_template": "<result>{result}</result>",
    }

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        given = self.settings
        self._template = check_template("template", given["template"], "problem")
        self._result_template = check_template(
            "result_template", given["result_template"], "result"
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

    def turn(self, response: str) -> Turn:
        """Returns the result of a call, or has the final answer scored."""
        expression = self._called(response)
        if expression is None:
            return self._score(response)

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

    def _score(self, response: str) -> Turn:
        reward, info = self._problems.collect(self._problems.submit(self._seed, response))
        reason = info.pop("missing_reason", "")
        return Turn(
            reward=None if reason else reward,
            is_correct=info.pop("is_correct", None),
            reason=reason,
            info=info,
        )


def result_of(expression: str) -> str:
    """Returns the value of an expression as text, or `error: ` and what is wrong with it."""
    try:
        return write_number(calculate(expression))
    except CalculatorError as error:
        return f"error: {error}"
