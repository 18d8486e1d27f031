"""Chat models of known families as small tokenizers with their control tokens and templates.

The templates in `chat_templates/` are written for these tests. Each has the form of its family's:
the marks around messages, where a system message and tools stand, how a tool answers, and what
becomes of what was thought in earlier turns.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from tests.models import many_tokenizers

TEMPLATES = Path(__file__).parent / "chat_templates"


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of chat models.

    Attributes:
        template: File of its template; with `tool_template`, of the one for prompts without tools.
        marks: Its special tokens.
        added: Tokens that were added to its vocabulary without being special.
        end: The token that ends a turn.
        begin: The token that begins all text; `""` if there is none.
        is_sentencepiece: Whether it is a tokenizer of that kind, rather than of GPT-2's.
        has_system: Whether its template takes a system message.
        has_tools: Whether it declares tools; with `"system"`, in the system message alone.
        has_tool_role: Whether it writes what a tool answers.
        thinking: Values of the template's names that switch thinking on and off.
        forgets: Whether it writes earlier turns otherwise than they were sampled.
        parser: vLLM's name for the format of its calls.
        call: A call of the tool `add` with 1 and 2 in this format.
    """

    template: str
    marks: tuple[str, ...]
    end: str
    added: tuple[str, ...] = ()
    begin: str = ""
    tool_template: str = ""
    is_sentencepiece: bool = False
    has_system: bool = True
    has_tools: bool | str = True
    has_tool_role: bool = True
    thinking: tuple[Mapping[str, Any], ...] = ()
    forgets: bool = False
    parser: str = ""
    call: str = ""


_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TOOL_MARKS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
_CALL = '{"name": "add", "arguments": {"a": 1, "b": 2}}'
_R1_TOOLS = ("calls", "call", "outputs", "output")

FAMILIES: dict[str, Family] = {
    "qwen2.5": Family(
        template="chatml_tools",
        marks=_CHATML,
        added=_TOOL_MARKS,
        end="<|im_end|>",
        parser="hermes",
        call=f"<tool_call>\n{_CALL}\n</tool_call>",
    ),
    "qwen3": Family(
        template="qwen3",
        marks=_CHATML,
        added=(*_TOOL_MARKS, "<think>", "</think>"),
        end="<|im_end|>",
        thinking=({"enable_thinking": True}, {"enable_thinking": False}),
        forgets=True,
        parser="hermes",
        call=f"<tool_call>\n{_CALL}\n</tool_call>",
    ),
    "hermes": Family(
        template="chatml",
        tool_template="chatml_tools",
        marks=_CHATML,
        added=_TOOL_MARKS,
        end="<|im_end|>",
        parser="hermes",
        call=f"<tool_call>\n{_CALL}\n</tool_call>",
    ),
    "llama3": Family(
        template="llama3",
        marks=("<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|python_tag|>"),
        begin="<|begin_of_text|>",
        end="<|eot_id|>",
        parser="llama3_json",
        call='{"name": "add", "parameters": {"a": 1, "b": 2}}',
    ),
    "mistral": Family(
        template="mistral",
        marks=(
            *("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
            *("[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
        ),
        begin="<s>",
        end="</s>",
        is_sentencepiece=True,
        forgets=True,
        parser="mistral",
        call=f"[TOOL_CALLS][{_CALL}]",
    ),
    "llama2": Family(
        template="llama2",
        marks=(),
        begin="<s>",
        end="</s>",
        is_sentencepiece=True,
        has_tools=False,
        has_tool_role=False,
    ),
    "gemma": Family(
        template="gemma",
        marks=("<start_of_turn>", "<end_of_turn>"),
        begin="<s>",
        end="<end_of_turn>",
        is_sentencepiece=True,
        has_system=False,
        has_tools=False,
        has_tool_role=False,
    ),
    "phi4": Family(
        template="phi4",
        marks=(
            *("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|/tool|>"),
            "<|endoftext|>",
        ),
        end="<|end|>",
        has_tools="system",
        parser="phi4_mini_json",
        call=f"functools[{_CALL}]",
    ),
    "deepseek-r1": Family(
        template="deepseek_r1",
        marks=(
            *("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<\uff5ctool\u2581sep\uff5c>"),
            *(f"<\uff5ctool\u2581{name}\u2581begin\uff5c>" for name in _R1_TOOLS),
            *(f"<\uff5ctool\u2581{name}\u2581end\uff5c>" for name in _R1_TOOLS),
        ),
        added=("<think>", "</think>"),
        begin="<\uff5cbegin\u2581of\u2581sentence\uff5c>",
        end="<\uff5cend\u2581of\u2581sentence\uff5c>",
        has_tools=False,
        forgets=True,
    ),
    "zephyr": Family(
        template="zephyr",
        marks=("<|user|>", "<|assistant|>", "<|system|>"),
        begin="<s>",
        end="</s>",
        is_sentencepiece=True,
        has_tools=False,
    ),
    "command-r": Family(
        template="command_r",
        marks=(
            *("<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
            "<|SYSTEM_TOKEN|>",
        ),
        begin="<BOS_TOKEN>",
        end="<|END_OF_TURN_TOKEN|>",
    ),
    "granite": Family(
        template="granite",
        marks=("<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"),
        end="<|end_of_text|>",
        thinking=({"thinking": True}, {"thinking": False}),
        parser="granite",
        call=f"<|tool_call|>[{_CALL}]",
    ),
}


def read(template: str) -> str:
    return (TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8")


def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """Returns a family's tokenizer, which the caller may change."""
    return copy.deepcopy(_made_once(name))


@cache
def _made_once(name: str) -> PreTrainedTokenizerFast:
    family = FAMILIES[name]
    template: Any = read(family.template)
    if family.tool_template:
        template = {"default": template, "tool_use": read(family.tool_template)}

    if family.is_sentencepiece:
        tokenizer = many_tokenizers.sentencepiece_bpe(
            template, list(family.marks), prefix="normalizer" if name == "llama2" else "never"
        )
        tokenizer.eos_token = family.end
        return tokenizer

    special = dict.fromkeys(filter(None, (family.begin, family.end, *family.marks)))
    names = {"eos_token": family.end} | ({"bos_token": family.begin} if family.begin else {})
    return many_tokenizers.byte_level(template, list(special), added=family.added, **names)
