"""What an environment's `reset` and `step` return: read once, and refused where it is odd.

A user's environment may return anything. What is read here has one form afterwards, so nothing
further down has to be prepared for more.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rllib_dapo.envs.messages import Conversation, as_conversation
from rllib_dapo.envs.shown_value import shown
from rllib_dapo.envs.tools import Tool, read_tools

_LONGEST_REASON = 300


class BadOutcome(ValueError):
    """An environment returned what it must not return; the message is one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResetOutcome:
    """What `reset` returned.

    Attributes:
        prompt: What the model reads: a text, or a conversation.
        answer: The ground truth as `info["answer"]` has it, as text; None if it is not there.
        tools: The tools that the model may call, as `info["tools"]` declares them.
        max_turns: How many responses an episode may have, as `info["max_turns"]` has it; None if it
            is not there.
    """

    prompt: str | Conversation
    answer: str | None = None
    tools: tuple[Tool, ...] = ()
    max_turns: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutcome:
    """What `step` returned.

    Attributes:
        observation: What the model reads next, a text or messages; empty if the episode is over.
        reward: Reward of the step. NaN means that there is no verdict, which ends the episode.
        is_done: Whether the episode is over, terminated or truncated.
        is_correct: Whether it is a success; None if the environment does not say.
        reason: Why there is no verdict, in one line; empty if there is one.
        prediction: The answer that the environment found in the response.
        components: Parts of the reward by name.
        metrics: Other figures by name.
        reward_if_cut_off: What is added to the reward if the episode is cut off after this step.
    """

    observation: str | Conversation
    reward: float
    is_done: bool
    is_correct: bool | None = None
    reason: str = ""
    prediction: str = ""
    components: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    reward_if_cut_off: float = 0.0


def missing_outcome(reason: str) -> StepOutcome:
    """Returns the outcome of a step that failed: no verdict, and the episode is over.

    Args:
        reason: Why, such as `crash: ...`.
    """
    told = one_line(reason)
    return StepOutcome(observation="", reward=math.nan, is_done=True, reason=told)


def read_reset(result: Any) -> ResetOutcome:
    """Reads what `reset` returned.

    Raises:
        BadOutcome: If it is not a prompt and a dict, or `info["tools"]` are not tools.
    """
    _refuse_coroutine("reset", result)
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise BadOutcome(f"reset must return the prompt and a dict (info), not {shown(result)}")

    prompt, info = result
    if not isinstance(info, Mapping):
        raise BadOutcome(f"reset returned the info {shown(info)}: it must be a dict")
    answer, max_turns = info.get("answer"), _plain(info.get("max_turns"))
    try:
        tools = read_tools(info.get("tools"))
    except ValueError as error:
        raise BadOutcome(f"reset: {error}") from None
    return ResetOutcome(
        prompt=read_prompt(prompt),
        answer=None if answer is None else _text("answer", answer),
        tools=tools,
        max_turns=max_turns if isinstance(max_turns, int) else None,
    )


def read_prompt(prompt: Any) -> str | Conversation:
    """Reads what a model is to read: a text as it is, a list of messages as a conversation.

    Raises:
        BadOutcome: If it is of another kind.
    """
    if isinstance(prompt, str):
        return str(prompt)  # also where it is of NumPy's or of a user's kind of text
    try:
        return as_conversation(prompt)
    except ValueError as error:
        raise BadOutcome(f"the environment observes no prompt: {error}") from None


def read_step(result: Any) -> StepOutcome:
    """Reads what `step` returned.

    A reward that is not a finite number gives no verdict, with the reason.

    Raises:
        BadOutcome: If it is not observation, reward, terminated, truncated and info, or one of
            these is of a kind that has no meaning.
    """
    _refuse_coroutine("step", result)
    if not isinstance(result, tuple | list) or len(result) != 5:
        raise BadOutcome(
            "step must return observation, reward, terminated, truncated and info, not "
            f"{shown(result)}"
        )

    observation, reward, terminated, truncated, info = result
    if not isinstance(info, Mapping):
        raise BadOutcome(f"step returned the info {shown(info)}: it must be a dict")
    is_done = _flag("terminated", terminated) or _flag("truncated", truncated)

    number = _number("the reward", reward)
    reason = _text("missing_reason", info.get("missing_reason") or "")
    if not math.isfinite(number):
        reason, number = one_line(reason or f"the reward is {number}"), math.nan
    is_missing = math.isnan(number)

    return StepOutcome(
        observation=_observed(observation, is_done=is_done),
        reward=number,
        is_done=is_done,
        is_correct=None if is_missing else _verdict(info.get("is_correct")),
        reason=reason if is_missing else "",
        prediction=_text("prediction", info.get("prediction", "")),
        components=_numbers(info, "reward_components", "part"),
        metrics=_numbers(info, "reward_metrics", "metric"),
        reward_if_cut_off=_number("info['reward_if_cut_off']", info.get("reward_if_cut_off", 0.0)),
    )


def one_line(text: str) -> str:
    """Returns a text as one line of bounded length."""
    return " ".join(text.split())[:_LONGEST_REASON]


def _observed(observation: Any, *, is_done: bool) -> str | Conversation:
    """Reads what the model is to read next; after the end of an episode it may be anything."""
    if is_done and not isinstance(observation, str):
        return ""
    try:
        return read_prompt(observation)
    except BadOutcome as fault:
        told = str(fault).rpartition("observes no prompt: ")[2]
        raise BadOutcome(f"step must return a text to go on with, or messages: {told}") from None


def _flag(name: str, value: Any) -> bool:
    value = _plain(value)
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise BadOutcome(f"step returned {name}={shown(value)}: it must be True or False")


def _verdict(value: Any) -> bool | None:
    value = _plain(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise BadOutcome(f"info['is_correct'] is {shown(value)}: it must be True, False or None")


def _number(name: str, value: Any) -> float:
    """Reads a number; a bool is not one, for it may be meant as -1 and 1 or as 0 and 1."""
    value = _plain(value)
    if not isinstance(value, bool | str | bytes) and hasattr(value, "__float__"):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            pass
    raise BadOutcome(f"{name} is {shown(value)}: it must be a number")


def _numbers(info: Mapping[str, Any], name: str, kind: str) -> dict[str, float]:
    """Reads numbers by name from the info."""
    numbers = info.get(name) or {}
    if not isinstance(numbers, Mapping):
        raise BadOutcome(f"info[{name!r}] is {shown(numbers)}: it must be a dict")
    return {
        _text(f"the name of a {kind} of the reward", key): _number(f"the {kind} {key!r}", value)
        for key, value in numbers.items()
    }


def _plain(value: Any) -> Any:
    """Returns the one value in a scalar or an array of one, of NumPy or torch."""
    if getattr(value, "size", None) == 1 or callable(getattr(value, "numel", None)):
        try:
            return value.item()
        except (TypeError, ValueError, RuntimeError):
            return value
    return value


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    try:
        return str(value)
    except Exception as error:
        raise BadOutcome(f"{name} has no text: {type(error).__name__}: {error}") from None


def _refuse_coroutine(name: str, result: Any) -> None:
    if inspect.iscoroutine(result):
        result.close()  # or Python would warn of it later, out of place
        raise BadOutcome(f"{name} is a coroutine (async def): it must be an ordinary method")
