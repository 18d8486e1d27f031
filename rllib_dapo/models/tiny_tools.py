"""The tiny model whose calculator is a tool, declared and called as chat models do it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rllib_dapo.envs.calculator.env import CALCULATOR
from rllib_dapo.envs.messages import Message
from rllib_dapo.envs.tools import Tool, tool_name
from rllib_dapo.models.tiny import Record, make_tokenizer
from rllib_dapo.models.tiny_calculator import CalculatorRecipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedTokenizerFast

_MARKS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
# What every call has in common takes a few tokens, as it does in the vocabularies of chat models.
_PARTS = ('{"name": "', "calculator", '", "arguments": {"', "expression", '": "', '"}}')

# Tools by their names alone, and what a tool answers between marks.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for tool in tools or [] %}{{ tool['function']['name'] }}\n{% endfor %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'tool' %}"
    "<tool_response>{{ message['content'] }}</tool_response>"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolsRecipe(CalculatorRecipe):
    """The model of `CalculatorRecipe`, which calls the calculator in the format `hermes`.

    A call of `17*23` is `<tool_call>{"name": "calculator", "arguments": {"expression":
    "17*23"}}</tool_call>`, and the tool answers with a message of its own role, which the chat
    template writes as `<tool_response>391</tool_response>`. The marks are tokens of their own, so
    nothing that a problem or a tool says can be one.
    """

    kind: ClassVar[str] = "tiny-tools"
    words: ClassVar[tuple[str, ...]] = (*_PARTS, *_MARKS)
    tools: ClassVar[tuple[Tool, ...]] = (CALCULATOR,)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """See `TinyRecipe.tokenizer`."""
        from tokenizers import AddedToken

        # Added tokens, which the plain vocabulary does not have: as text, a mark is its characters.
        tokenizer = make_tokenizer(_PARTS)
        tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in _MARKS])
        tokenizer.chat_template = CHAT_TEMPLATE
        return tokenizer

    def records(self) -> Iterator[Record]:
        """See `TinyRecipe.records`. No held-out problem is among them."""
        # Without arguments, super() does not work in a dataclass with slots.
        for prompt, *turns in CalculatorRecipe.records(self):
            if len(turns) == 1:
                yield prompt, *turns
                continue
            answer = str(turns[-1])
            result = Message(role="tool", content=answer, name=tool_name(CALCULATOR))
            yield prompt, called(str(prompt).removesuffix("=")), (result,), answer


def called(expression: str) -> str:
    """Returns a call of the calculator as the model writes it."""
    call = {"name": tool_name(CALCULATOR), "arguments": {"expression": expression}}
    return f"<tool_call>{json.dumps(call)}</tool_call>"
