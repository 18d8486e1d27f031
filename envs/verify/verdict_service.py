"""What scores in a child process: the answer rules, and any functions that are sent there.

It is imported in the child, without Ray, torch or the environments.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable
from typing import Any

from rllib_dapo.envs.processes.service import Service
from rllib_dapo.envs.verify import ANSWER_RULES
from rllib_dapo.envs.verify.cpu_limit import limit_cpu_time
from rllib_dapo.envs.verify.verdict import Verdict

LONGEST_TEXT = 300  # characters of a verdict's texts
# Neither the same text nor two integers: a rule has to load its library over them.
_HARMLESS = (r"\boxed{1}", r"\frac{2}{2}")


class VerdictService(Service):
    """Gives verdicts: calls are `[rule's name, its arguments]`."""

    def __init__(self, cpu_seconds: float) -> None:
        """Makes the service.

        Args:
            cpu_seconds: CPU time that a rule which asks a library may take over one response.
        """
        limit_cpu_time(cpu_seconds)
        self._rules: dict[str, Callable[..., Any]] = dict(ANSWER_RULES)

    def load(self, content: Any) -> None:
        """Makes a rule ready: `[name, pickled function]`.

        One of `ANSWER_RULES` comes without a function. It is tried once, which imports its library.
        """
        name, function = content
        if function:
            # Pickled by whoever started this process: no text of a model has been near it.
            self._rules[name] = pickle.loads(base64.b64decode(function))
        else:
            self._rules[name](*_HARMLESS)

    def call(self, content: Any) -> dict[str, Any]:
        """Returns the verdict of a rule as what JSON can hold."""
        name, arguments = content
        return _as_content(_as_verdict(self._rules[name](*arguments)))


def _as_verdict(value: Any) -> Verdict:
    value = value.item() if hasattr(value, "item") else value  # scalars of NumPy and torch
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
        "prediction": str(verdict.prediction)[:LONGEST_TEXT],
        "reason": str(verdict.reason)[:LONGEST_TEXT],
        "components": {str(name): float(value) for name, value in verdict.components.items()},
    }
