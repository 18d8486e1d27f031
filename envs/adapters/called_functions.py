"""A user's function as a source of rewards: what it is called with, at once or awaited."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from rllib_dapo.envs.adapters.reward_results import read_result, read_results
from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, missing

# Judges responses to one problem: a verdict for each, in their order.
GroupSource: TypeAlias = Callable[
    [Problem, Sequence[str]], Sequence[Verdict] | Awaitable[Sequence[Verdict]]
]


def is_async(function: Any) -> bool:
    """Whether a function, or an object that is called like one, is written with `async def`."""
    call = getattr(function, "__call__", None)  # noqa: B004 (its kind is asked for)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def one_by_one(judge: Callable[[Problem, str], Verdict]) -> GroupSource:
    """Makes a source of what judges one response."""

    def source(problem: Problem, responses: Sequence[str]) -> list[Verdict]:
        if len(responses) == 1:
            return [judge(problem, responses[0])]
        return [_guarded(judge, problem, response) for response in responses]

    return source


def function_source(function: Callable[..., Any]) -> GroupSource:
    """Makes a source of `function(prompt, response)`.

    If it takes a third argument, that is the answer; if it takes `columns`, those of the problem.
    """
    call = _with_problem(function)
    if not is_async(function):
        return one_by_one(lambda problem, response: read_result(call(problem, response)))

    async def judge(problem: Problem, response: str, *, is_alone: bool) -> Verdict:
        try:
            return read_result(await call(problem, response))
        except Exception as error:
            if is_alone:
                raise
            return raised(error)

    async def source(problem: Problem, responses: Sequence[str]) -> list[Verdict]:
        is_alone = len(responses) == 1
        return await asyncio.gather(*(judge(problem, one, is_alone=is_alone) for one in responses))

    return source


def group_source(function: Callable[..., Any]) -> GroupSource:
    """Makes a source of `function(prompt, responses)`, which returns a list with their rewards.

    It may take answer and columns as a function of one response does.
    """
    call = _with_problem(function)

    async def awaited(problem: Problem, responses: Sequence[str]) -> list[Verdict]:
        return read_results(await call(problem, list(responses)), len(responses))

    def source(problem: Problem, responses: Sequence[str]) -> list[Verdict]:
        return read_results(call(problem, list(responses)), len(responses))

    return awaited if is_async(function) else source


def _with_problem(function: Callable[..., Any]) -> Callable[[Problem, Any], Any]:
    """Returns what calls a function with as much of a problem as it takes.

    A prompt that is a conversation is handed over as one text, in which each message begins with
    its role.
    """
    signature = inspect.signature(function)
    named = ("columns",) if "columns" in signature.parameters else ()
    try:
        signature.bind("prompt", "response", "answer", **dict.fromkeys(named))
        takes_answer = True
    except TypeError:
        takes_answer = False

    def call(problem: Problem, responses: Any) -> Any:
        answer = (problem.answer,) if takes_answer else ()
        columns = {"columns": dict(problem.columns)} if named else {}
        return function(problem.text, responses, *answer, **columns)

    return call


def _guarded(judge: Callable[[Problem, str], Verdict], problem: Problem, response: str) -> Verdict:
    """Judges one response of several: what it does to the scorer costs no other its verdict."""
    try:
        return judge(problem, response)
    except Exception as error:
        return raised(error)


def raised(error: Exception) -> Verdict:
    """Returns the verdict of a scorer that raised something."""
    told = " ".join(f"the scorer raised {type(error).__name__}: {error}".split())
    return missing(MissingReason.CRASH, told)
