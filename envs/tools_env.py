"""Environments whose model may call tools in its own format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rllib_dapo.envs.messages import Message, Observation
from rllib_dapo.envs.tools import ModelTurn, Tool, ToolCall, argument_fault, read_tools, tool_name
from rllib_dapo.envs.turns import Turn, TurnsEnv

_MOST_CALLS = 16  # of one response
_MOST_RESULT_CHARACTERS = 100_000


class ToolsEnv(TurnsEnv):
    """An environment of which a subclass writes `begin`, `tools`, `call` and `answer`.

    The tools go to the model's chat template. The calls in a response are read by the parser of
    `rollout.tool_call_parser`, each is answered by a message of the role `tool`, and a response
    without a call goes to `answer`::

        class StockEnv(ToolsEnv):
            def begin(self, seed):
                self.stock = {"apples": seed % 50}
                return "How many apples are there?"

            def tools(self):
                fruit = {"type": "string", "enum": list(self.stock)}
                return [function_tool("look_up", "Say how many there are.", {"fruit": fruit})]

            def call(self, call):
                return str(self.stock[call.arguments["fruit"]])

            def answer(self, response):
                return Turn(is_correct=response == str(self.stock["apples"]))

    A call that cannot be read, of a tool that is not declared, or with arguments that do not fit
    the tool's schema is answered too: the model reads what is wrong with it.
    """

    def tools(self) -> list[Tool]:
        """Returns the tools of the current episode, see `read_tools`."""
        raise NotImplementedError

    def call(self, call: ToolCall) -> str:
        """Runs a call of a declared tool, whose arguments fit its schema, and returns the result.

        Raises:
            ToolError: If the model is to read that the call failed, and why.
        """
        raise NotImplementedError

    def answer(self, response: str) -> Turn:
        """Reacts to a response without a call."""
        raise NotImplementedError

    def turn(self, response: str) -> Turn:
        """Answers the calls in a response, or has its text judged."""
        said = ModelTurn.of(response)
        if not said.tool_calls and not said.call_error:
            return self.answer(response)

        # Cut off here, the episode is a failure: there is no final answer.
        return Turn(observation=self._answers(said), is_correct=False, done=False)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """As `TurnsEnv.reset`; the info has the tools too."""
        prompt, info = super().reset(seed=seed, options=options)
        self._tools = {tool_name(tool): tool for tool in read_tools(self.tools())}
        return prompt, {**info, "tools": list(self._tools.values())} if self._tools else info

    def _answers(self, said: ModelTurn) -> tuple[Message, ...]:
        if said.call_error:
            return (_message(f"error: {said.call_error}", 0),)

        answered = [
            _message(self._result(call), number, name=call.name if call.name in self._tools else "")
            for number, call in enumerate(said.tool_calls[:_MOST_CALLS])
        ]
        if len(said.tool_calls) > _MOST_CALLS:
            error = f"error: only the first {_MOST_CALLS} calls of a message are run"
            answered.append(_message(error, _MOST_CALLS))
        return tuple(answered)

    def _result(self, call: ToolCall) -> str:
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools)
            return f"error: there is no tool {call.name[:64]!r}; there are: {known}"
        if fault := argument_fault(tool, call.arguments):
            return f"error: the arguments of {call.name} do not fit: {fault}"
        try:
            return self.call(call)[:_MOST_RESULT_CHARACTERS]
        except ToolError as error:
            return f"error: {error}"


class ToolError(Exception):
    """A call failed; the message is what the model reads of it."""


def function_tool(
    name: str, description: str, properties: Mapping[str, Any], *, optional: tuple[str, ...] = ()
) -> Tool:
    """Returns a tool in the form that chat templates take.

    Args:
        name: Its name.
        description: What it does, for the model.
        properties: JSON schema of each argument, by name.
        optional: Arguments that may be left out.
    """
    schema = {
        "type": "object",
        "properties": dict(properties),
        "required": [key for key in properties if key not in optional],
        "additionalProperties": False,
    }
    function = {"name": name, "description": description, "parameters": schema}
    return {"type": "function", "function": function}


def _message(content: str, number: int, *, name: str = "") -> Message:
    # Nine letters and digits, as the templates of Mistral's models want them.
    return Message(role="tool", content=content, name=name, tool_call_id=f"call{number:05d}")
