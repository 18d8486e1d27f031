"""Token ids of templates and untrusted texts, with no control token but the template's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final

from rllib_dapo.envs.messages import Message
from rllib_dapo.envs.tools import Tool, tool_name
from rllib_dapo.models.control_tokens import control_token_ids, template_source
from rllib_dapo.models.inert_text import InertEncoder
from rllib_dapo.models.rendered_template import Piece, Slot, render_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST_KEPT: Final = 1024  # templates taken apart: an environment may declare others for each prompt


def prompt_encoder(tokenizer: PreTrainedTokenizerBase) -> PromptEncoder:
    """Returns the encoder of a tokenizer, made once for its template and its vocabulary."""
    return _made_once(tokenizer, template_source(tokenizer), len(tokenizer))


@lru_cache(maxsize=4)
def _made_once(tokenizer: PreTrainedTokenizerBase, template: str, size: int) -> PromptEncoder:
    return PromptEncoder(tokenizer)


class PromptEncoder:
    """Puts untrusted texts into a chat template and encodes the whole.

    Where no text holds a control token, the ids are those of the whole, as `apply_chat_template`
    gives them. Where one does, what stands between the template's own control tokens is encoded
    without control tokens (see `InertEncoder`), just as a tokenizer itself encodes what stands
    between two of them.

    Attributes:
        control: Ids of the control tokens, see `control_token_ids`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Finds out which tokens are control tokens."""
        self.control = control_token_ids(tokenizer)
        self._tokenizer = tokenizer
        self._templates: dict[Any, tuple[Piece, ...]] = {}
        self._own: dict[str, list[int]] = {}

    def template(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()
    ) -> tuple[Piece, ...]:
        """Returns what the chat template makes of such a conversation.

        Args:
            messages: The messages; of what they say, all that matters is which of them are empty.
            tools: Tools that the template declares to the model.

        Raises:
            ValueError: As `render_template`, and if a tool holds a control token.
        """
        told = json.dumps(list(tools)) if tools else ""
        shapes = tuple(
            (message.role, bool(message.content), message.name, message.tool_call_id)
            for message in messages
        )
        key = (shapes, told)
        if key not in self._templates:
            self._refuse_tools(tools)
            _make_room(self._templates)
            self._templates[key] = render_template(self._tokenizer, messages, tools=tools)
        return self._templates[key]

    def is_inert(self, text: str) -> bool:
        """Whether a text holds nothing that the tokenizer reads as a control token."""
        return self.control.isdisjoint(self._read(text))

    def inert(self, text: str, *, at_start: bool) -> list[int]:
        """Returns the ids of a text that holds control tokens, see `InertEncoder.encode`."""
        return self._inert_encoder.encode(text, at_start=at_start)

    def encode(
        self, pieces: Sequence[Piece], contents: Sequence[str], *, at_start: bool
    ) -> list[int]:
        """Returns the ids of a template that is filled with untrusted texts.

        Args:
            pieces: The template's own texts, and slots.
            contents: What fills the slots, by their index.
            at_start: Whether this is the beginning of all text.

        Raises:
            ValueError: If a text cannot be encoded without a control token; one line.
        """
        own_ids = [i for piece in pieces if isinstance(piece, str) for i in self._own_ids(piece)]
        # Any unknown character becomes the unknown token. Nobody can fake a role with it, unless
        # the template itself writes it.
        fakes_unknown = self._tokenizer.unk_token_id in own_ids
        watched = self.control if fakes_unknown else self.control - {self._tokenizer.unk_token_id}

        filled = [
            piece if isinstance(piece, str) else piece.fill(well_formed(contents[piece.index]))
            for piece in pieces
        ]
        if all(
            self.is_inert(text)
            for piece, text in zip(pieces, filled, strict=True)
            if isinstance(piece, Slot)
        ):
            whole = self._read("".join(filled))
            # A control token could still come about where a text touches the template.
            if [index for index in whole if index in watched] == own_ids:
                return whole

        left_out = self._tokenizer.unk_token_id if fakes_unknown else None
        return self._spliced(pieces, filled, at_start=at_start, left_out=left_out)

    def _refuse_tools(self, tools: Sequence[Tool]) -> None:
        """Refuses tools whose texts hold control tokens: the template writes them as its own."""
        for tool in tools:
            for text in (json.dumps(tool, ensure_ascii=False), *_texts(tool)):
                if self.control.intersection(self._read(text)) - {self._tokenizer.unk_token_id}:
                    raise ValueError(
                        f"the tool {tool_name(tool)!r} holds a control token in {text[:60]!r}: take"
                        " it out of its name, description or parameters"
                    )

    def _own_ids(self, piece: str) -> list[int]:
        """Control tokens in a text of the template, which is the same for every prompt."""
        if piece not in self._own:
            _make_room(self._own)
            self._own[piece] = [index for index in self._read(piece) if index in self.control]
        return self._own[piece]

    def _spliced(
        self,
        pieces: Sequence[Piece],
        filled: Sequence[str],
        *,
        at_start: bool,
        left_out: int | None,
    ) -> list[int]:
        """Encodes what stands between the template's own control tokens without control tokens."""
        ids: list[int] = []
        section = ""

        def end_section() -> None:
            encoded = self.inert(section, at_start=at_start and not ids) if section else []
            ids.extend(index for index in encoded if index != left_out)

        for piece, text in zip(pieces, filled, strict=True):
            end = 0
            for index, start, stop in self._control_spans(text) if isinstance(piece, str) else ():
                section += text[end:start]
                end_section()
                ids.append(index)
                section, end = "", stop
            section += text[end:]

        end_section()
        return ids

    def _control_spans(self, text: str) -> list[tuple[int, int, int]]:
        """Control tokens in a text of the template: id, and where it begins and ends."""
        if not self._tokenizer.is_fast:
            return self._control_spans_by_name(text)
        read = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [
            (index, start, stop)
            for index, (start, stop) in zip(read["input_ids"], read["offset_mapping"], strict=True)
            if index in self.control
        ]

    def _control_spans_by_name(self, text: str) -> list[tuple[int, int, int]]:
        """The same for a tokenizer that is written in Python and does not tell places."""
        spans, end = [], 0
        for index in self._read(text):
            name = str(self._tokenizer.convert_ids_to_tokens(index))
            if index in self.control and (start := text.find(name, end)) >= 0:
                end = start + len(name)
                spans.append((index, start, end))
        return spans

    def _read(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _inert_encoder(self) -> InertEncoder:
        return InertEncoder(self._tokenizer, self.control)


def _make_room(kept: MutableMapping[Any, Any]) -> None:
    if len(kept) >= _MOST_KEPT:
        kept.clear()


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value of JSON, the keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def well_formed(text: str) -> str:
    """Returns a text without halves of characters (lone surrogates), which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
