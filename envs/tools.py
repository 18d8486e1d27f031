"""Tools that a model may call: how they are declared, what a call is, and what answers one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from rllib_dapo.envs.shown_value import shown

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

# A tool in the form of OpenAI's interface, which chat templates take:
# {"type": "function", "function": {"name", "description", "parameters": a JSON schema}}.
Tool: TypeAlias = Mapping[str, Any]

MOST_TOOLS = 128
_MOST_CHARACTERS = 200_000
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """A call of a tool, as a model wrote it and a parser of its format has read it.

    Attributes:
        name: Name of the tool, which may be one that is not declared.
        arguments: Arguments by name; any JSON.
    """

    name: str
    arguments: Mapping[str, Any]


class ModelTurn(str):
    """A response of a model that was given tools: its text, and the calls that were read in it.

    It is the action of an environment that declares tools. To any other code it is the text.

    Attributes:
        tool_calls: The calls, in the order in which they were written.
        call_error: Why there are none, where the text has what looks like a call; one line.
    """

    tool_calls: tuple[ToolCall, ...]
    call_error: str

    def __new__(
        cls, text: str, *, tool_calls: Iterable[ToolCall] = (), call_error: str = ""
    ) -> Self:
        """Makes a turn of a text."""
        turn = super().__new__(cls, text)
        turn.tool_calls = tuple(tool_calls)
        turn.call_error = call_error
        return turn

    @classmethod
    def of(cls, text: str) -> ModelTurn:
        """Returns a text as a turn; one that is a turn stays what it is."""
        return text if isinstance(text, ModelTurn) else cls(text)

    def as_json(self) -> dict[str, Any]:
        """Returns the turn in the form in which it travels to another process."""
        calls = [{"name": call.name, "arguments": dict(call.arguments)} for call in self.tool_calls]
        return {"text": str(self), "tool_calls": calls, "call_error": self.call_error}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `as_json` wrote."""
        calls = (ToolCall(**call) for call in value["tool_calls"])
        return cls(value["text"], tool_calls=calls, call_error=value["call_error"])


def read_tools(declared: Any) -> tuple[Tool, ...]:
    """Reads the tools that an environment declares, as `info["tools"]` of its `reset`.

    Args:
        declared: A list of tools in the form of OpenAI's interface; None or empty if there are
            none.

    Returns:
        The same, made of nothing but JSON.

    Raises:
        ValueError: If one of them is not such a tool; one line.
    """
    if declared is None:
        return ()
    if not isinstance(declared, list | tuple):
        raise ValueError(f"info['tools'] is {shown(declared)}: it must be a list of tools")
    if len(declared) > MOST_TOOLS:
        raise ValueError(f"info['tools'] has {len(declared)} tools: at most {MOST_TOOLS}")

    try:
        written = json.dumps(list(declared), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"info['tools'] is not made of JSON: {error}") from error
    if len(written) > _MOST_CHARACTERS:
        raise ValueError(f"info['tools'] has {len(written)} characters: at most {_MOST_CHARACTERS}")

    tools: list[Any] = json.loads(written)
    names = [_checked_name(tool) for tool in tools]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"info['tools'] has two tools of the name {min(twice)!r}")
    return tuple(tools)


def tool_name(tool: Tool) -> str:
    """Returns the name of a tool that `read_tools` has read."""
    return str(tool["function"]["name"])


def argument_fault(tool: Tool, arguments: Mapping[str, Any]) -> str:
    """Returns what is wrong with the arguments of a call, by the tool's JSON schema.

    Args:
        tool: The tool; its schema has been checked by `read_tools`.
        arguments: Untrusted JSON.

    Returns:
        One line; empty if the arguments fit.
    """
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    validator = _validator(tool["function"].get("parameters") or {"type": "object"})
    try:
        error = best_match(validator.iter_errors(dict(arguments)))
    except Unresolvable as lacking:
        return f"its schema refers to {shown(lacking.ref)}, which is not in it"
    except RecursionError:
        return "they are nested too deeply"
    if error is None:
        return ""
    place = ".".join(map(str, error.path))
    return " ".join(f"{place}: {error.message}".removeprefix(": ").split())[:200]


def _validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # With a registry of its own a validator fetches nothing that a schema refers to.
    return Draft202012Validator(schema, registry=Registry())


def _checked_name(tool: Any) -> str:
    from jsonschema import Draft202012Validator, SchemaError

    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or tool.get("type") != "function":
        raise ValueError(
            f"info['tools'] has {shown(tool)}: a tool is "
            "{'type': 'function', 'function': {'name', 'description', 'parameters'}}"
        )
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"info['tools'] has a tool of the name {shown(name)}: it may have up to 64 letters, "
            "digits, dots, hyphens and underscores"
        )

    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise ValueError(f"the parameters of the tool {name!r} are not a JSON schema")
    try:
        Draft202012Validator.check_schema(parameters or {})
    except SchemaError as error:
        reason = " ".join(error.message.split())[:160]
        raise ValueError(
            f"the parameters of the tool {name!r} are not a JSON schema: {reason}"
        ) from error
    return name
