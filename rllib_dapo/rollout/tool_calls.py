"""Reads the calls of tools in what a model wrote in its own format, by vLLM's parsers."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from rllib_dapo.envs.tools import ModelTurn, Tool, ToolCall
from rllib_dapo.models.response_text import framing_ids
from rllib_dapo.models.thoughts import behind_thoughts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST_CHARACTERS: Final = 200_000
_MOST_PARSERS: Final = 64  # sets of tools whose parsers are kept

# What looks like a call, in whatever format: a mark whose name says so, or a text that is nothing
# but the JSON or the list which some formats are.
_LIKE_A_CALL: Final = re.compile(
    r"<\|python_tag\|>|functools\[|[<\[][^<>\[\]\n]{0,40}(?:tool|function|invoke)[^<>\[\]\n]{0,60}[>\]]"
    r"|\A\s*\{\s*\"(?:name|type|function|arguments|parameters)\"|\A\s*\[\s*\{\s*\"name\"",
    re.IGNORECASE,
)
_UNREADABLE: Final = "the call cannot be read: write it in the format of tool calls, and whole"


class ToolCallReader:
    """Reads calls of tools in responses. What cannot be read is told in words; nothing raises."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, parser: str) -> None:
        """Finds the parser.

        Args:
            tokenizer: The model's tokenizer.
            parser: Name of one of vLLM's parsers, as after its `--tool-call-parser`.

        Raises:
            ValueError: If vLLM is not installed, has no such parser, or its parser does not suit
                the tokenizer; one line.
        """
        self._tokenizer = tokenizer
        self._framing = framing_ids(tokenizer)
        self._make = _parser_maker(tokenizer, parser)
        self._parsers: dict[str, Callable[[str], Any]] = {}
        self._extractor([])

    def read(self, text: str, token_ids: Sequence[int], tools: Sequence[Tool]) -> ModelTurn:
        """Returns a response with the calls in it.

        Args:
            text: The response, as the environment is to see it.
            token_ids: What was sampled. Marks of calls are special tokens in some models, which
                the text may lack.
            tools: The declared tools; some formats say no types, and these are read by the schema.
        """
        ids = list(token_ids)
        while ids and ids[-1] in self._framing:
            ids.pop()
        # Calls that a model only thinks of are not made.
        written = behind_thoughts(str(self._tokenizer.decode(ids, skip_special_tokens=False)))
        if len(written) > _MOST_CHARACTERS:
            return ModelTurn(text, call_error=f"a message of {len(written)} characters is not read")

        try:
            calls = [_read_call(call) for call in self._extractor(tools)(written)]
        except Exception:  # a parser may raise anything on what a model writes
            calls = []
        if calls:
            return ModelTurn(text, tool_calls=calls)
        return ModelTurn(text, call_error=_UNREADABLE if _LIKE_A_CALL.search(written) else "")

    def _extractor(self, tools: Sequence[Tool]) -> Callable[[str], Any]:
        """Parses texts; made once for each set of tools, for it looks at the whole vocabulary."""
        key = json.dumps(list(tools))
        if key not in self._parsers:
            if len(self._parsers) >= _MOST_PARSERS:
                self._parsers.clear()
            self._parsers[key] = self._make(tools)
        return self._parsers[key]


def tool_call_reader(tokenizer: PreTrainedTokenizerBase, parser: str) -> ToolCallReader | None:
    """Returns what reads calls; None where `rollout.tool_call_parser` is not set.

    Raises:
        ValueError: As `ToolCallReader`.
    """
    return ToolCallReader(tokenizer, parser) if parser else None


def _read_call(call: Any) -> ToolCall:
    """Reads one of vLLM's calls.

    Raises:
        ValueError: If its name is not a text, or its arguments are not a JSON object.
    """
    name, arguments = call.function.name, json.loads(call.function.arguments or "{}")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError("a call needs a name and named arguments")
    return ToolCall(name=name.strip(), arguments=arguments)


def _parser_maker(
    tokenizer: PreTrainedTokenizerBase, name: str
) -> Callable[[Sequence[Tool]], Callable[[str], Any]]:
    setting = f"rollout.tool_call_parser={name!r}"
    try:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.tool_parsers import ToolParserManager
    except ImportError as error:
        raise ValueError(
            f"{setting} is one of vLLM's parsers, and vLLM is not installed: {error}"
        ) from error

    known = ToolParserManager.list_registered()
    if name not in known:
        raise ValueError(f"{setting} is not a parser of vLLM's; there are: {', '.join(known)}")

    def make(tools: Sequence[Tool]) -> Callable[[str], Any]:
        request = ChatCompletionRequest(
            messages=[], model="", tools=[dict(tool) for tool in tools] or None
        )
        try:
            parser = ToolParserManager.get_tool_parser(name)(tokenizer, request.tools)
        except Exception as error:  # each parser has its own ways to say what it needs
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{setting} does not suit the model's tokenizer: {reason}") from error

        def extract(text: str) -> Any:
            _silence()
            found = parser.extract_tool_calls(text, request)
            return found.tool_calls if found.tools_called else []

        return extract

    return make


def _silence() -> None:
    """Keeps parsers from writing a traceback for each call that a model has misspelt.

    Not once for all: an engine that starts sets the levels of all of vLLM's loggers anew.
    """
    for name in ("vllm.tool_parsers", "vllm.parser"):
        logger = logging.getLogger(name)
        if logger.level != logging.CRITICAL:
            logger.setLevel(logging.CRITICAL)
