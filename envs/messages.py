"""A prompt as a conversation: what a file holds, or an environment observes, as messages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rllib_dapo.envs.shown_value import shown

__all__ = [
    "ROLES",
    "Conversation",
    "Message",
    "Observation",
    "as_conversation",
    "as_messages",
    "as_observation",
    "plain_text",
]

ROLES = ("system", "developer", "user", "assistant", "tool")

# What a tool's message says beside its content. Templates write it as their own text, so it must
# not be able to hold a control token.
_OF_TOOLS = ("name", "tool_call_id")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        role: Who speaks, one of `ROLES`.
        content: What is said. It is untrusted text, whoever speaks.
        name: The tool that answers, in a message of the role `tool`; `""` where nobody says so.
        tool_call_id: The call that it answers; some templates want one.
    """

    role: str
    content: str
    name: str = ""
    tool_call_id: str = ""

    def as_mapping(self) -> dict[str, str]:
        """Returns the message in the form that chat templates take."""
        told = {key: getattr(self, key) for key in _OF_TOOLS if getattr(self, key)}
        return {"role": self.role, "content": self.content, **told}


Conversation: TypeAlias = tuple[Message, ...]
# What `reset` and `step` return: a text, or messages in the form that chat templates take.
Observation: TypeAlias = str | list[dict[str, str]]


def as_conversation(value: Any) -> Conversation:
    """Returns a prompt as a conversation.

    A text is one message of the user. A list holds messages as chat templates know them, each a
    mapping with a `role` and a `content`, where the content may be a list of parts of the type
    `text`. A message of the role `tool` may have a `name` and a `tool_call_id`. Other keys of a
    message must be None or empty: what no template would be given is not dropped without a word.

    Args:
        value: A text, a `Message`, or a list or tuple of mappings or messages.

    Raises:
        ValueError: If it is of another kind, empty, or ends with the assistant's words, after which
            there is nothing to answer; one line that says what was found.
    """
    if isinstance(value, str):
        return (Message(role="user", content=value),)
    if isinstance(value, Message):
        value = (value,)
    if not isinstance(value, list | tuple):
        raise ValueError(
            f"a prompt must be a text or a list of messages, not {type(value).__name__}: "
            f"{shown(value)}"
        )

    conversation = tuple(_as_message(message) for message in value)
    if not conversation:
        raise ValueError("a prompt must have at least one message, and this list is empty")
    if conversation[-1].role == "assistant":
        raise ValueError(
            "the last message of a prompt must not be the assistant's: the model is to write it"
        )
    return conversation


def as_messages(conversation: Conversation) -> list[dict[str, str]]:
    """Returns a conversation in the form that chat templates take: dicts of role and content."""
    return [message.as_mapping() for message in conversation]


def as_observation(prompt: Any) -> Observation:
    """Returns a prompt as an environment observes it: a text stays a text.

    Args:
        prompt: What `as_conversation` takes.

    Raises:
        ValueError: As `as_conversation`.
    """
    return prompt if isinstance(prompt, str) else as_messages(as_conversation(prompt))


def plain_text(prompt: str | Sequence[Message]) -> str:
    """Returns a prompt as one text, for people to read and for duplicates to be told.

    Where it is more than one message of the user, each message begins with its role.
    """
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return "\n\n".join(f"{message.role}: {message.content}" for message in prompt)


def _as_message(value: Any) -> Message:
    if isinstance(value, Message):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(
            f"a message must be a mapping with role and content, not {type(value).__name__}: "
            f"{shown(value)}"
        )

    role = value.get("role")
    if role not in ROLES:
        raise ValueError(f"a message has the role {shown(role)}; known: {', '.join(ROLES)}")
    of_tools = _OF_TOOLS if role == "tool" else ()
    unused = [str(key) for key in value if key not in ("role", "content", *of_tools) and value[key]]
    if unused:
        raise ValueError(
            f"a message of the role {role} has {', '.join(unused)} beside its content, which no "
            "chat template would be given; put it into the content"
        )
    told = {key: value[key] for key in of_tools if value.get(key)}
    for key, text in told.items():
        if not isinstance(text, str) or not _PLAIN_NAME.fullmatch(text):
            raise ValueError(
                f"a message of the role tool has the {key} {shown(text)}: it may have up to 64 "
                "letters, digits, dots, hyphens and underscores"
            )
    return Message(role=role, content=_content(role, value.get("content")), **told)


def _content(role: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple) or not content:
        raise ValueError(f"the message of the role {role} has the content {shown(content)}")

    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, Mapping) else part
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        if kind != "text" or not isinstance(text, str):
            raise ValueError(
                f"the message of the role {role} has a part that is not a text: {shown(part)}; "
                "the policy reads texts only"
            )
        texts.append(text)
    return "\n".join(texts)
