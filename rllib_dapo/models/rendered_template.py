"""What a chat template writes around and between the messages of a conversation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rllib_dapo.envs.messages import Message
from rllib_dapo.envs.tools import Tool

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A message's content while a template is taken apart: plain letters, between them what a template
# might escape, and around them white space that it might strip.
_MARK = "qzslot"
_ODD = "\"'\\\n<&>\u00e9"
_NEWLINE, _SPACE = "\n", "\u2003"


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A place where a template writes the content of a message.

    Attributes:
        index: Place of the message in the conversation.
        lstrip: Characters that the template strips on the left; None stands for all white space.
        rstrip: Characters that it strips on the right.
        as_json: How it escapes the content: None, or the `ensure_ascii` of the JSON that it writes.
    """

    index: int
    lstrip: str | None = ""
    rstrip: str | None = ""
    as_json: bool | None = None

    def fill(self, content: str) -> str:
        """Returns the content as the template would write it."""
        written = content.lstrip(self.lstrip).rstrip(self.rstrip)
        return written if self.as_json is None else _escaped(written, ensure_ascii=self.as_json)


Piece: TypeAlias = str | Slot


def render_template(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    tools: Sequence[Tool] = (),
) -> tuple[Piece, ...]:
    """Takes a chat template apart: what it writes itself, and where it writes the messages.

    The template never sees the messages' real content, so no content can steer what it writes.

    Args:
        tokenizer: A tokenizer with a chat template.
        messages: The conversation. Of what its messages say, all that the template gets is whether
            it is empty: of such messages some templates write nothing.
        tools: Tools that the template declares to the model.

    Returns:
        The template's own texts and the slots, in the order of the prompt.

    Raises:
        ValueError: If the template refuses such a conversation, leaves a message out or changes
            what it says; one line that names the template and the role.
    """
    name = f"the chat template of {tokenizer.name_or_path or type(tokenizer).__name__!r}"
    roles = [message.role for message in messages]
    probes = [
        message.as_mapping() | {"content": _probe(index) if message.content else ""}
        for index, message in enumerate(messages)
    ]
    try:
        rendered = str(
            tokenizer.apply_chat_template(
                probes,
                tools=[dict(tool) for tool in tools] or None,
                add_generation_prompt=True,
                tokenize=False,
            )
        )
    except Exception as error:  # a template may raise anything
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f"{name} takes no conversation of the roles {', '.join(roles)}: "
            f"{type(error).__name__}: {reason}"
        ) from error

    pieces = _split(rendered)
    kept = {piece.index for piece in pieces if isinstance(piece, Slot)}
    for index, role in enumerate(roles):
        if index not in kept and messages[index].content:
            raise ValueError(f"{name} does not keep what a message of the role {role} says")
    if any(_MARK in piece for piece in pieces if isinstance(piece, str)):
        raise ValueError(f"{name} changes what a message of the roles {', '.join(roles)} says")
    return pieces


def _probe(index: int) -> str:
    inner = f"{_MARK}{index}open{_ODD}{_MARK}{index}close"
    return f"{_NEWLINE}{_SPACE}{inner}{_SPACE}{_NEWLINE}"


def _split(rendered: str) -> tuple[Piece, ...]:
    """Finds the slots in a rendered text. One whose content was changed stays text."""
    found = [(match, form) for form in (None, False, True) for match in _pattern(form)(rendered)]

    pieces: list[Piece] = []
    end = 0
    for match, form in sorted(found, key=lambda pair: pair[0].start()):
        slot = Slot(
            index=int(match["index"]),
            lstrip=_stripped(match["left"]),
            rstrip=_stripped(match["right"]),
            as_json=form,
        )
        pieces += [rendered[end : match.start()], slot]
        end = match.end()

    pieces.append(rendered[end:])
    return tuple(piece for piece in pieces if piece != "")


def _pattern(form: bool | None) -> Callable[[str], Iterator[re.Match[str]]]:
    """Finds slots whose content is written as it is (None), or as JSON of this `ensure_ascii`."""

    def written(text: str) -> str:
        return re.escape(text if form is None else _escaped(text, ensure_ascii=form))

    newline, space = written(_NEWLINE), written(_SPACE)
    return re.compile(
        f"(?P<left>(?:{newline})?{space})?{_MARK}(?P<index>[0-9]+)open{written(_ODD)}"
        f"{_MARK}(?P=index)close(?P<right>{space}(?:{newline})?)?"
    ).finditer


def _stripped(edge: str | None) -> str | None:
    """What a template strips, given what it left of the white space at an edge."""
    if edge is None:
        return None
    return "" if edge.strip(_SPACE) else "\n"


def _escaped(text: str, *, ensure_ascii: bool) -> str:
    return json.dumps(text, ensure_ascii=ensure_ascii)[1:-1]
