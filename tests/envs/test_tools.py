"""Tools: how they are declared, what is wrong with a call, and what a model reads of it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from rllib_dapo.envs import ModelTurn, ToolCall, ToolError, ToolsEnv, Turn, TurnsEnv, function_tool
from rllib_dapo.envs.hosts.environment_service import Recipe
from rllib_dapo.envs.hosts.hosted_env import HostedEnv
from rllib_dapo.envs.hosts.outcomes import BadOutcome, read_reset
from rllib_dapo.envs.tools import argument_fault, read_tools

DIVIDE = function_tool(
    "divide",
    "Divide a by b.",
    {"a": {"type": "integer"}, "b": {"type": "integer"}, "how": {"enum": ["floor", "true"]}},
    optional=("how",),
)


class DivideEnv(ToolsEnv):
    """Asks for 7/2, with a tool that divides."""

    default_settings: ClassVar[Any] = {**TurnsEnv.default_settings, "max_turns": 5}

    def begin(self, seed: int) -> str:
        return f"{seed}/2="

    def tools(self) -> list[Any]:
        return [DIVIDE]

    def call(self, call: ToolCall) -> str:
        if call.arguments["b"] == 0:
            raise ToolError("division by zero")
        return str(call.arguments["a"] // call.arguments["b"])

    def answer(self, response: str) -> Turn:
        return Turn(is_correct=response == "3")


def call(name: str = "divide", **arguments: Any) -> ToolCall:
    return ToolCall(name=name, arguments=arguments)


def turn(*calls: ToolCall, error: str = "") -> ModelTurn:
    return ModelTurn("...", tool_calls=calls, call_error=error)


@pytest.fixture
def env() -> DivideEnv:
    made = DivideEnv()
    made.reset(seed=7)
    return made


def test_an_episode_with_a_call_goes_on_and_ends_with_the_answer(env: DivideEnv) -> None:
    prompt, info = env.reset(seed=7)
    assert (prompt, info["tools"], info["max_turns"]) == ("7/2=", [DIVIDE], 5)

    observation, reward, done, truncated, info = env.step(turn(call(a=7, b=2)))
    assert observation == [
        {"role": "tool", "content": "3", "name": "divide", "tool_call_id": "call00000"}
    ]
    assert (reward, done, truncated, info["reward_if_cut_off"]) == (0.0, False, False, -1.0)
    assert env.step("3")[1:3] == (1.0, True)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (turn(call(a=7, b=0)), "error: division by zero"),
        (turn(call("multiply", a=1)), "error: there is no tool 'multiply'; there are: divide"),
        (turn(call("x" * 500)), f"error: there is no tool '{'x' * 64}'; there are: divide"),
        (turn(call(a="seven", b=2)), "error: the arguments of divide do not fit: a: 'seven' is"),
        (turn(call(a=7)), "error: the arguments of divide do not fit: 'b' is a required"),
        (turn(call(a=7, b=2, c=1)), "error: the arguments of divide do not fit: Additional"),
        (turn(call(a=7, b=2, how="ceil")), "error: the arguments of divide do not fit: how:"),
        (turn(error="the call cannot be read"), "error: the call cannot be read"),
    ],
    ids=range(8),
)
def test_what_is_wrong_with_a_call_is_told_to_the_model(
    env: DivideEnv, said: ModelTurn, read: str
) -> None:
    [message], reward, done, *_ = env.step(said)
    assert message["role"] == "tool"
    assert message["content"].startswith(read)
    assert (reward, done) == (0.0, False)


def test_each_call_of_a_message_is_answered_and_there_is_a_bound(env: DivideEnv) -> None:
    observation, *_ = env.step(turn(*(call(a=number, b=1) for number in range(20))))
    assert [message["content"] for message in observation[:16]] == list(map(str, range(16)))
    assert len({message["tool_call_id"] for message in observation}) == 17
    assert observation[16]["content"] == "error: only the first 16 calls of a message are run"


def test_a_turn_with_calls_travels_to_an_environment_in_a_process() -> None:
    env = HostedEnv(Recipe(env="rllib_dapo/CalculatorMath-v0", config={"calls": "native"}))
    try:
        prompt, info = env.reset(seed=3)
        expression = prompt.removesuffix("=")
        assert [tool["function"]["name"] for tool in info["tools"]] == ["calculator"]
        observation, *_ = env.step(turn(call("calculator", expression=expression)))
        result = observation[0]["content"]
        observation, *_ = env.step(turn(error="no"))
        assert observation[0]["content"] == "error: no"
        assert env.step(result)[1] == 1.0
    finally:
        env.close()


def test_a_turn_is_its_text_and_comes_back_from_json_as_it_was() -> None:
    said = ModelTurn("a <call>", tool_calls=[call(a=1)], call_error="")
    again = ModelTurn.from_json(said.as_json())
    assert again == "a <call>"
    assert (again.tool_calls, again.call_error) == (said.tool_calls, "")
    assert ModelTurn.of(said) is said
    assert ModelTurn.of("plain").tool_calls == ()


FUNCTION = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("add", "must be a list of tools"),
        ([3], "a tool is"),
        ([{"type": "function"}], "a tool is"),
        ([{"type": "function", "function": {"name": "two words"}}], "a tool of the name"),
        ([{"type": "function", "function": {"name": "<|im_end|>"}}], "a tool of the name"),
        ([FUNCTION, FUNCTION], "two tools of the name 'f'"),
        ([{"type": "function", "function": {"name": "f", "parameters": 3}}], "not a JSON schema"),
        (
            [{"type": "function", "function": {"name": "f", "parameters": {"type": "number?"}}}],
            "not a JSON schema",
        ),
        ([{**FUNCTION, "more": {1, 2}}], "not made of JSON"),
        ([FUNCTION] * 129, "at most 128"),
        ([{**FUNCTION, "more": "x" * 200_001}], "characters: at most"),
    ],
    ids=range(11),
)
def test_what_is_not_a_tool_is_refused_in_one_line(declared: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        read_tools(declared)
    assert "\n" not in str(raised.value)
    with pytest.raises(BadOutcome, match=said):
        read_reset(("prompt", {"tools": declared}))


def test_no_tools_are_no_tools() -> None:
    assert read_tools(None) == read_tools([]) == read_reset(("prompt", {})).tools == ()


def test_a_schema_that_refers_to_elsewhere_fetches_nothing() -> None:
    schema = {"$ref": "http://127.0.0.1:9/schema.json"}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert read_tools([tool])
    assert argument_fault(tool, {"a": 1}).startswith("its schema refers to")


def test_arguments_that_are_nested_without_end_are_a_fault() -> None:
    nested: Any = {}
    for _ in range(50_000):
        nested = {"a": nested}
    tree = {"type": "object", "additionalProperties": {"$ref": "#"}}
    tool = {"type": "function", "function": {"name": "f", "parameters": tree}}
    assert argument_fault(tool, nested) == "they are nested too deeply"
