"""Judges what `reset` and `step` returned: what of it training can use, and what is wrong with it.

A value that is wrong but does not stand in the way is noted, and the check goes on, so that one
cause gives one finding. A value that leaves nothing to go on with raises `Fault`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any

from rllib_dapo.env_check.environment_finding import Fault, Finding, Level, shortened
from rllib_dapo.envs.messages import as_conversation, plain_text
from rllib_dapo.envs.tools import read_tools
from rllib_dapo.envs.verify import MissingReason

# Longer than any prompt limit in use: about 50,000 tokens, where the defaults are 2,048 for a
# prompt and 20,480 for all that follows it.
LONGEST_TEXT = 200_000

_REWARD_FIX = (
    "return a float; if there is no verdict, NaN with the reason in info['missing_reason']"
)
_BOOL_FIX = (
    "return a float, such as 1.0 and -1.0; whether a response is right is info['is_correct']"
)
_INFO_FIX = "return a dict, which is empty if there is nothing to say"
_SHAPE_FIX = {
    "reset": "return a tuple: the prompt, and a dict (info)",
    "step": "return observation, reward, terminated, truncated, info",
}
_OLD_STEP_FIX = (
    "this is the interface of Gym before 0.26: return terminated and truncated instead of done"
)
_ASYNC_FIX = "make it an ordinary function; it may run asynchronous code with asyncio.run"


@dataclass(kw_only=True)
class Outcome:
    """What a call gave, as far as training can use it.

    Attributes:
        text: The observation as one text; empty where it is not a text at an episode's end.
        is_text: Whether the observation is a text, rather than a list of messages.
        is_over: Whether the episode is over.
        reward: The reward; NaN if there is no verdict, or if it is not a number.
        reason: Why there is no verdict.
        findings: What is wrong with it all the same.
    """

    text: str = ""
    is_text: bool = True
    is_over: bool = False
    reward: float = math.nan
    reason: str = ""
    findings: list[Finding] = field(default_factory=list)


def judge_reset(name: str, result: Any) -> Outcome:
    """Judges what `reset` returned.

    Args:
        name: The call, as findings show it.
        result: What it returned.

    Raises:
        Fault: If there is no prompt in it.
    """
    outcome = Outcome()
    observation, info = _take_apart("reset", name, result, (2,))

    outcome.text, outcome.is_text = _observation("reset", observation)
    if not outcome.text.strip():
        _note(
            outcome,
            "empty prompt",
            f"{name} gives an empty prompt",
            "return the text that the language model is to read",
        )
    if len(outcome.text) > LONGEST_TEXT:
        _note(
            outcome,
            "long prompt",
            f"{name} gives a prompt of {len(outcome.text):,} characters, longer than any prompt "
            "limit: it would be left out of training (rollout.max_prompt_tokens)",
            "say less, or cut what a prompt quotes",
        )
    if not isinstance(info, Mapping):
        _note(outcome, "reset info", f"reset returned the info {shortened(info)}", _INFO_FIX)
        return outcome

    try:
        read_tools(info.get("tools"))
    except ValueError as error:
        fix = "declare tools in the form of OpenAI's interface, see docs/environments.md"
        _note(outcome, "tools", f"reset: {error}", fix)
    return outcome


def judge_step(name: str, result: Any) -> Outcome:
    """Judges what `step` returned.

    Args:
        name: The call, as findings show it.
        result: What it returned.

    Raises:
        Fault: If an episode cannot go on with it.
    """
    outcome = Outcome()
    observation, reward, terminated, truncated, info = _take_apart("step", name, result, (5,))
    flags = [_flag(outcome, name, "terminated", terminated)]
    flags.append(_flag(outcome, name, "truncated", truncated))
    outcome.is_over = any(flags)

    if not isinstance(info, Mapping):
        _note(outcome, "step info", f"{name} returned the info {shortened(info)}", _INFO_FIX)
        info = {}

    _judge_next_text(outcome, name, observation)
    _judge_reward(outcome, name, reward, info)
    _judge_info(outcome, name, info)
    return outcome


def _take_apart(method: str, name: str, result: Any, lengths: tuple[int, ...]) -> tuple[Any, ...]:
    if inspect.isawaitable(result) or inspect.isasyncgen(result):
        if inspect.iscoroutine(result):
            result.close()  # or Python would warn that nobody waited for it
        raise Fault(
            Finding(
                fault=f"{method} is a coroutine function (async def), which nobody waits for",
                fix=_ASYNC_FIX,
                cause=f"{method} result",
            )
        )
    if isinstance(result, tuple) and len(result) in lengths:
        return result

    fix = _SHAPE_FIX[method]
    if isinstance(result, tuple):
        what = f"{len(result)} values instead of {lengths[0]}: {shortened(result)}"
        fix = _OLD_STEP_FIX if method == "step" and len(result) == 4 else fix
    else:
        what = f"{type(result).__name__} instead of a tuple: {shortened(result)}"
    raise Fault(Finding(fault=f"{name} returned {what}", fix=fix, cause=f"{method} result"))


def _observation(method: str, value: Any) -> tuple[str, bool]:
    """Returns an observation as one text, and whether it is one.

    Raises:
        Fault: If it is neither a text nor a list of messages.
    """
    if isinstance(value, str):
        return value, True

    try:
        if not isinstance(value, list | tuple):
            raise ValueError
        return plain_text(as_conversation(value)), False
    except ValueError as error:
        why = f" ({error})" if str(error) else ""
        fault = f"{method} observes {type(value).__name__}, not text: {shortened(value)}{why}"
        is_prompt = method == "reset"
        fix = (
            "return a str, or a list of messages: what the language model is to read"
            if is_prompt
            else "return a str: what the model reads next, or '' if the episode is over"
        )
        raise Fault(Finding(fault=fault, fix=fix, cause=f"{method} observation")) from None


def _judge_next_text(outcome: Outcome, name: str, observation: Any) -> None:
    """Judges an observation: at an episode's end nobody reads it, before that everything of it."""
    try:
        outcome.text, outcome.is_text = _observation("step", observation)
    except Fault as fault:
        if not outcome.is_over:
            raise
        found = fault.finding
        _note(outcome, found.cause, f"{found.fault}, at the end", found.fix, Level.LOOK)

    if len(outcome.text) > LONGEST_TEXT:
        _note(
            outcome,
            "long observation",
            f"{name} observes {len(outcome.text):,} characters, more than fits into an episode "
            "(rollout.max_response_tokens), which would be cut off there",
            "say less: the model reads all of it",
            Level.LOOK if outcome.is_over else Level.BREAKS,
        )


def _flag(outcome: Outcome, name: str, flag: str, value: Any) -> bool:
    plain = _plain(value)
    if isinstance(plain, bool | int) and plain in (0, 1):
        return bool(plain)

    _note(
        outcome,
        flag,
        f"{name} gave {flag}={shortened(value)}, which is neither true nor false",
        f"give {flag} as True or False",
    )
    return True  # training would end the episode there, without a verdict


def _judge_reward(outcome: Outcome, name: str, reward: Any, info: Mapping[Any, Any]) -> None:
    number = _number(reward)
    if number is None or math.isinf(number):
        _note(
            outcome,
            "reward",
            f"{name} gave the reward {shortened(reward)}, which is not a finite number",
            _BOOL_FIX if isinstance(_plain(reward), bool) else _REWARD_FIX,
        )
        outcome.reason = "the reward is not a finite number"
        return

    outcome.reward = number
    if math.isnan(number):
        _judge_reason(outcome, name, info)


def _number(value: Any) -> float | None:
    """A value as a float; None if it is not one number."""
    plain = _plain(value)
    # A bool may be meant as 0 and 1, or as -1 and 1.
    if isinstance(plain, bool) or not isinstance(plain, Real | Decimal | Fraction):
        return None
    try:
        return float(plain)
    except OverflowError:  # an int that no float can hold
        return math.inf


def _plain(value: Any) -> Any:
    """The one value in a scalar or array of NumPy or torch."""
    if not callable(getattr(value, "item", None)):
        return value
    try:
        return value.item()
    except Exception:  # there are several in it
        return value


def _judge_reason(outcome: Outcome, name: str, info: Mapping[Any, Any]) -> None:
    outcome.reason = str(info.get("missing_reason") or "")
    if not outcome.reason:
        outcome.reason = "no reason given"
        _note(
            outcome,
            "missing reason",
            f"{name} gave the reward NaN, which means that there is no verdict, but not the reason",
            "put the reason in info['missing_reason'], or return a finite number",
        )
    elif outcome.reason.startswith(MissingReason.CRASH):
        _note(
            outcome,
            "crash",
            f"{name}: {outcome.reason}",
            "the scorer must not raise, whatever a model wrote",
        )


def _judge_info(outcome: Outcome, name: str, info: Mapping[Any, Any]) -> None:
    if outcome.is_over:
        correct = info.get("is_correct")
        if correct is not None and not _is_bool(correct):
            _note(
                outcome,
                "is_correct",
                f"{name} gave info['is_correct'] = {shortened(correct)}",
                "give True or False; None if there is no verdict; leave the key out if the "
                "environment only grades",
            )

    for key in ("reward_components", "reward_metrics"):
        figures = info.get(key, {})
        if not isinstance(figures, Mapping) or not _are_numbers(figures.values()):
            _note(
                outcome,
                key,
                f"{name} gave info[{key!r}] = {shortened(figures)}",
                "give a dict from names to numbers",
            )

    extra = info.get("reward_if_cut_off", 0.0)
    if not _are_numbers([extra]):
        _note(
            outcome,
            "reward_if_cut_off",
            f"{name} gave info['reward_if_cut_off'] = {shortened(extra)}",
            "give a number: it is added to the reward of an episode that is cut off there",
        )


def _is_bool(value: Any) -> bool:
    plain = _plain(value)
    return isinstance(plain, bool | int | float) and plain in (0, 1)


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(_number(value) is not None for value in values)


def _note(outcome: Outcome, cause: str, fault: str, fix: str, level: Level = Level.BREAKS) -> None:
    outcome.findings.append(Finding(fault=fault, fix=fix, level=level, cause=cause))
