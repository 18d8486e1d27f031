"""A calculator that answers back, in front of the problems of another environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest

from rllib_dapo.envs.calculator.env import CalculatorMathEnv
from rllib_dapo.envs.tools import ModelTurn, ToolCall

SETTINGS = {"problem_config": {"operations": "*", "max_operand": 19}, "template": "{problem}"}


@pytest.fixture
def env() -> CalculatorMathEnv:
    return CalculatorMathEnv(SETTINGS)


def test_a_call_is_answered_and_the_final_answer_scored(env: CalculatorMathEnv) -> None:
    prompt, _ = env.reset(seed=3)
    expression = prompt.removesuffix("=")
    first, second = expression.split("*")
    product = str(int(first) * int(second))

    said = f"Let me see. <calculator>{expression}</calculator> Now I know."
    observation, reward, terminated, truncated, info = env.step(said)
    assert (observation, reward, terminated, truncated) == (
        f"<result>{product}</result>",
        0.0,
        False,
        False,
    )
    assert info == {"is_correct": False, "reward_if_cut_off": -1.0}

    observation, reward, terminated, truncated, info = env.step(product)
    assert (observation, reward, terminated, truncated) == ("", 1.0, True, False)
    assert info["is_correct"] is True
    assert info["prediction"] == product


def test_a_wrong_final_answer_is_wrong_without_any_call(env: CalculatorMathEnv) -> None:
    env.reset(seed=3)
    _, reward, terminated, _, info = env.step("-1")
    assert (reward, terminated, info["is_correct"]) == (-1.0, True, False)


def test_the_last_call_counts_and_one_that_is_not_closed_is_none(env: CalculatorMathEnv) -> None:
    env.reset(seed=3)
    assert (
        env.step("<calculator>1</calculator><calculator>2+2</calculator>")[0]
        == "<result>4</result>"
    )
    assert env.step("<calculator>2+2")[2] is True


def test_what_is_wrong_with_an_expression_is_told(env: CalculatorMathEnv) -> None:
    env.reset(seed=3)
    assert env.step("<calculator>1/0</calculator>")[0] == "<result>error: division by zero</result>"


def test_an_episode_without_an_answer_fails_after_the_last_turn() -> None:
    env = CalculatorMathEnv({**SETTINGS, "max_turns": 2})
    env.reset(seed=0)
    call = "<calculator>1+1</calculator>"
    assert env.step(call)[2:4] == (False, False)
    _, reward, terminated, truncated, info = env.step(call)
    assert (reward, terminated, truncated, info["is_correct"]) == (-1.0, False, True, False)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(call)


def test_copies_for_other_episodes_share_the_problems_and_nothing_else(
    env: CalculatorMathEnv,
) -> None:
    other = env.fork()
    one, two = env.reset(seed=1)[0], other.reset(seed=2)[0]
    assert one != two
    env.step("<calculator>1</calculator>")
    first, second = two.removesuffix("=").split("*")
    assert other.step(str(int(first) * int(second)))[1] == 1.0
    first, second = one.removesuffix("=").split("*")
    assert env.step(str(int(first) * int(second)))[1] == 1.0


def test_a_scorer_in_a_process_can_be_behind_it() -> None:
    env = CalculatorMathEnv(
        {**SETTINGS, "problem_config": {"answer_rule": "math_verify", "max_operand": 9}}
    )
    prompt, _ = env.reset(seed=0)
    first, second = prompt.removesuffix("=").split("+")
    try:
        assert env.step(rf"\boxed{{{first}+{second}}}")[1] == 1.0
    finally:
        env.close()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"problems": "rllib_dapo/Nothing-v0"}, "^problems='rllib_dapo/Nothing-v0': "),
        ({"problems": 3}, "^problems=3: must be the id"),
        (
            {"problems": "rllib_dapo/CalculatorMath-v0", "problem_config": None},
            "must be an environment of one step",
        ),
        ({"problem_config": {"digit": 1}}, "unknown setting 'digit'"),
        ({"problem_config": 3}, "^problem_config=3: must be a mapping"),
        ({"template": "no place"}, "^template='no place': must be a text with the field {problem}"),
        ({"call_open": ""}, "^call_open='': must be a text"),
        ({"max_turns": 0}, "^max_turns=0: must be at least 1"),
        ({"call_opn": "["}, "unknown setting 'call_opn'.*did you mean 'call_open'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_line(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        CalculatorMathEnv({**SETTINGS, **settings})
    assert "\n" not in str(caught.value)


def test_a_native_call_is_answered_by_the_tool_and_marks_are_text() -> None:
    env = CalculatorMathEnv({**SETTINGS, "template": None, "calls": "native"})
    prompt, info = env.reset(seed=3)
    assert [tool["function"]["name"] for tool in info["tools"]] == ["calculator"]
    expression = prompt.removesuffix("=")
    first, second = map(int, expression.split("*"))

    call = ToolCall(name="calculator", arguments={"expression": expression})
    observation, reward, terminated, *_ = env.step(ModelTurn("", tool_calls=[call]))
    assert [(m["role"], m["content"]) for m in observation] == [("tool", str(first * second))]
    assert (reward, terminated) == (0.0, False)
    assert env.step(str(first * second))[1:3] == (1.0, True)

    env.reset(seed=3)
    assert env.step(f"<calculator>{expression}</calculator>")[1:3] == (-1.0, True)


def test_with_calls_in_marks_no_tool_is_declared(env: CalculatorMathEnv) -> None:
    assert "tools" not in env.reset(seed=3)[1]
    with pytest.raises(ValueError, match="calls='json': must be one of text, native"):
        CalculatorMathEnv({"calls": "json"})
