"""A prompt column's value as a prompt: a text, or the messages of a conversation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rllib_dapo.envs.messages import Conversation, Message, as_conversation

# Who speaks, as ShareGPT's files and their like call it.
_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "observation": "tool",
    "tool_response": "tool",
}
_PYTHON_MESSAGES = ("[{'role':", "[{'content':", "[{'from':", "[{'value':")
_LONGEST_JSON = 4 * 2**20  # characters of a text that may be a conversation written as JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadPrompt:
    """What a prompt column's value says.

    Attributes:
        prompt: The prompt: a text if the user alone speaks, and once; empty if there is none.
        reply: What the assistant says at the very end, which is no part of a prompt; None if the
            user has the last word.
    """

    prompt: str | Conversation
    reply: Any = None


def read_prompt(cell: Any) -> ReadPrompt:
    """Returns what a prompt column's value says.

    Args:
        cell: A text; messages with `role` and `content`, or with `from` and `value`; or None.

    Raises:
        ValueError: If there are messages that cannot be read; one line.
    """
    if isinstance(cell, str):
        if cell.startswith(_PYTHON_MESSAGES):
            raise ValueError("a conversation is written as Python writes it, and not as JSON")
        return ReadPrompt(prompt=cell)
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, Mapping) and _is_message(cell):
        cell = [cell]
    if not isinstance(cell, list | tuple) or not cell:
        return ReadPrompt(prompt="")

    messages = [_usual_names(message) for message in cell]
    reply = None
    if _role(messages[-1]) == "assistant":
        *messages, last = messages
        reply = last.get("content")
        # Some files keep the truth beside the words, or in their place.
        truth = last.get("ground_truth")
        reply = truth.get("value") if isinstance(truth, Mapping) and not reply else reply

    roles = [_role(message) for message in messages]
    if "user" not in roles or not _says_something(messages[-1]):
        return ReadPrompt(prompt="", reply=reply)
    return ReadPrompt(prompt=plain_prompt(as_conversation(messages)), reply=reply)


def plain_prompt(conversation: Conversation) -> str | Conversation:
    """Returns a conversation, or its text if it is one message of the user."""
    only = conversation[0]
    return only.content if len(conversation) == 1 and only.role == "user" else conversation


def with_system(prompt: str | Conversation, system: Any) -> str | Conversation:
    """Puts a system message in front of a prompt.

    Args:
        prompt: The prompt.
        system: Text of the message; None or a blank text leaves the prompt as it is.

    Raises:
        ValueError: If it is not a text, or the prompt has another system message.
    """
    if system is None or (isinstance(system, str) and not system.strip()):
        return prompt
    if not isinstance(system, str):
        raise ValueError(f"the system message is not a text but {type(system).__name__}")

    conversation = as_conversation(prompt)
    if conversation[0].role == "system":
        if conversation[0].content != system:
            raise ValueError("the prompt has another system message than the row's own column")
        return conversation
    return (Message(role="system", content=system), *conversation)


def with_last_text(prompt: str | Conversation, change: Callable[[str], str]) -> str | Conversation:
    """Returns a prompt whose text, or the text of the user's last message, is changed.

    Args:
        prompt: The prompt.
        change: Returns the new text.
    """
    if isinstance(prompt, str):
        return change(prompt)
    users = [place for place, message in enumerate(prompt) if message.role == "user"]
    if not users:
        return prompt
    last = users[-1]
    changed = replace(prompt[last], content=change(prompt[last].content))
    return (*prompt[:last], changed, *prompt[last + 1 :])


def unpacked(text: str) -> Any:
    """Returns the messages that a text holds as JSON, as in a CSV file, or the text itself."""
    if text[:1] not in "[ \n" or not (start := text.lstrip()).startswith("["):
        return text
    if not start[1:].lstrip().startswith("{") or len(text) > _LONGEST_JSON:
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if all(isinstance(one, Mapping) and _is_message(one) for one in value) else text


def ends_with_assistant(cell: Any) -> bool:
    """Whether a prompt column's value is a conversation in which the assistant speaks last."""
    value = unpacked(cell) if isinstance(cell, str) else cell
    last = value[-1] if isinstance(value, list) and value else None
    return isinstance(last, Mapping) and _role(_usual_names(last)) == "assistant"


def _is_message(value: Mapping[str, Any]) -> bool:
    return {"role", "content"} <= value.keys() or {"from", "value"} <= value.keys()


def _usual_names(message: Any) -> Any:
    """Returns a message with the names and roles that chat templates know."""
    if not isinstance(message, Mapping):
        return message
    usual = dict(message)
    if usual.get("role") is None and "from" in usual:
        usual["role"] = usual.pop("from")
    if usual.get("content") is None and "value" in usual:
        usual["content"] = usual.pop("value")

    role = usual.get("role")
    if isinstance(role, str):
        usual["role"] = _ROLES.get(role.casefold(), role.casefold())
    return usual


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, Mapping) else None


def _says_something(message: Any) -> bool:
    content = message.get("content") if isinstance(message, Mapping) else message
    return bool(content.strip()) if isinstance(content, str) else content is not None
