"""What scores in a child process: the answer rules, and any functions that are sent there.

It is imported in the child, without Ray, torch or the environments.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import pickle
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from rllib_dapo.envs.processes.service import Service
from rllib_dapo.envs.verify import ANSWER_RULES
from rllib_dapo.envs.verify.cpu_limit import limit_cpu_time
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, missing

LONGEST_TEXT = 300  # characters of a verdict's texts
# Neither the same text nor two integers: a rule has to load its library over them.
_HARMLESS = (r"\boxed{1}", r"\frac{2}{2}")


class VerdictService(Service):
    """Gives verdicts: calls are `[rule's name, its arguments, its deadline in seconds]`.

    Rules that are written with `async def` wait side by side, in an event loop of the main thread,
    and each keeps its deadline by itself. All others are bounded by whoever asks.
    """

    def __init__(self, cpu_seconds: float) -> None:
        """Makes the service.

        Args:
            cpu_seconds: CPU time that a rule which asks a library may take over one response.
        """
        limit_cpu_time(cpu_seconds)
        self._rules: dict[str, Callable[..., Any]] = dict(ANSWER_RULES)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun: deque[asyncio.Task[Any]] = deque()

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

    def begin(self, contents: Sequence[Any]) -> None:
        """Begins calls that are awaited."""
        for name, arguments, seconds in contents:
            rule = self._rules.get(name)
            if inspect.iscoroutinefunction(rule):
                self._loop = self._loop or asyncio.new_event_loop()
                call = _within(seconds, rule(*arguments))
                self._begun.append(self._loop.create_task(call))

    def call(self, content: Any) -> Any:
        """Returns the verdict of a rule as what JSON can hold; or a list, if it gives several."""
        name, arguments, _ = content
        rule = self._rules[name]
        if inspect.iscoroutinefunction(rule):
            assert self._loop is not None
            value = self._loop.run_until_complete(self._begun.popleft())
        else:
            value = rule(*arguments)

        if isinstance(value, list):
            return [_as_content(_as_verdict(one)) for one in value]
        return _as_content(_as_verdict(value))


async def _within(seconds: float, call: Coroutine[Any, Any, Any]) -> Any:
    try:
        async with asyncio.timeout(seconds) as limit:
            return await call
    except TimeoutError:
        if not limit.expired():  # the rule's own
            raise
    return missing(MissingReason.TIMEOUT, f"no verdict within {seconds:g} s")


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
        "metrics": {str(name): float(value) for name, value in verdict.metrics.items()},
    }
