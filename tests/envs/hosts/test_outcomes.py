"""Whatever `reset` and `step` may return: read, or refused in one line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from rllib_dapo.envs.hosts.outcomes import BadOutcome, read_reset, read_step
from rllib_dapo.envs.messages import Message

OVER = ("", 1.0, True, False)


@pytest.mark.parametrize(
    ("reward", "number"),
    [
        (2, 2.0),
        (np.float32(0.5), 0.5),
        (np.int64(-3), -3.0),
        (np.array(0.25), 0.25),
        (np.array([0.25]), 0.25),
        (torch.tensor(1.5), 1.5),
        (torch.tensor([[1.5]]), 1.5),
    ],
)
def test_a_reward_is_any_one_number(reward: Any, number: float) -> None:
    assert read_step(("", reward, True, False, {})).reward == number


@pytest.mark.parametrize(
    "reward",
    [
        None,
        "1",
        b"1",
        True,
        np.True_,
        torch.tensor(True),
        1j,
        10**400,
        np.array([1.0, 0.0]),
        torch.ones(2),
        [],
        {},
        object(),
    ],
)
def test_what_is_not_one_number_is_refused_as_a_reward(reward: Any) -> None:
    with pytest.raises(BadOutcome, match=r"^the reward is .*: it must be a number$"):
        read_step(("", reward, True, False, {}))


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_a_reward_that_is_not_finite_is_missing_and_so_is_the_verdict(reward: float) -> None:
    outcome = read_step(("", reward, True, False, {"is_correct": True}))
    assert math.isnan(outcome.reward)
    assert outcome.is_correct is None
    assert outcome.reason == f"the reward is {float(reward)}"

    told = read_step(("", reward, True, False, {"missing_reason": "down\nfor good"}))
    assert told.reason == "down for good"


@pytest.mark.parametrize("flag", [True, np.True_, 1, torch.tensor(True), np.array([True])])
def test_an_episode_is_over_by_any_kind_of_true(flag: Any) -> None:
    assert read_step(("", 0.0, flag, False, {})).is_done
    assert read_step(("", 0.0, False, flag, {})).is_done


@pytest.mark.parametrize("flag", [None, "False", 2, 0.5, [], np.array([True, False])])
def test_what_is_neither_true_nor_false_is_refused_as_the_end(flag: Any) -> None:
    with pytest.raises(BadOutcome, match=r"^step returned terminated="):
        read_step(("", 0.0, flag, False, {}))
    with pytest.raises(BadOutcome, match=r"^step returned truncated="):
        read_step(("", 0.0, False, flag, {}))


@pytest.mark.parametrize("info", [None, [], "x", 5])
def test_an_info_that_is_no_dict_is_refused(info: Any) -> None:
    with pytest.raises(BadOutcome, match=r"^step returned the info .*: it must be a dict$"):
        read_step((*OVER, info))
    with pytest.raises(BadOutcome, match=r"^reset returned the info .*: it must be a dict$"):
        read_reset(("prompt", info))


@pytest.mark.parametrize("result", [None, "x", (), OVER, (*OVER, {}, {}), {"reward": 1}])
def test_another_number_of_values_is_refused(result: Any) -> None:
    with pytest.raises(BadOutcome, match=r"^step must return observation, reward, terminated"):
        read_step(result)


@pytest.mark.parametrize("result", [None, "prompt", ("prompt",), ("prompt", {}, {})])
def test_reset_gives_two_values(result: Any) -> None:
    with pytest.raises(BadOutcome, match=r"^reset must return the prompt and a dict"):
        read_reset(result)


@pytest.mark.parametrize("prompt", [None, 5, {}, [], [1], ["x"], np.zeros(3), b"x"])
def test_a_prompt_of_another_kind_is_refused(prompt: Any) -> None:
    with pytest.raises(BadOutcome, match=r"^the environment observes no prompt: "):
        read_reset((prompt, {}))


def test_a_prompt_is_a_text_or_a_list_of_messages() -> None:
    assert read_reset(("1+1=", {"answer": 2})).prompt == "1+1="
    assert read_reset(("1+1=", {"answer": 2})).answer == "2"
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1="}]
    assert read_reset((messages, {})).prompt == (
        Message(role="system", content="Be brief."),
        Message(role="user", content="1+1="),
    )


@pytest.mark.parametrize(
    "info",
    [
        {"is_correct": "yes"},
        {"is_correct": np.array([1, 0])},
        {"reward_components": [1]},
        {"reward_components": {"form": "good"}},
        {"reward_if_cut_off": None},
    ],
)
def test_odd_values_in_the_info_are_refused(info: dict[str, Any]) -> None:
    with pytest.raises(BadOutcome):
        read_step((*OVER, info))


def test_the_info_is_read_whatever_numbers_it_is_made_of() -> None:
    info = {
        "is_correct": np.True_,
        "prediction": 5,
        "reward_components": {"form": np.float32(0.5)},
        "reward_if_cut_off": torch.tensor(-1.0),
    }
    outcome = read_step(("", 1.0, True, False, info))
    assert outcome.is_correct is True
    assert outcome.prediction == "5"
    assert outcome.components == {"form": 0.5}
    assert outcome.reward_if_cut_off == -1.0


def test_an_episode_goes_on_with_a_text_alone_and_may_end_with_anything() -> None:
    assert read_step((None, 1.0, True, False, {})).observation == ""
    for observation in (None, 5, b"x"):
        with pytest.raises(BadOutcome, match=r"^step must return a text to go on with"):
            read_step((observation, 0.0, False, False, {}))


def test_a_coroutine_is_told_as_one() -> None:
    async def step() -> None: ...

    with pytest.raises(BadOutcome, match=r"^step is a coroutine"):
        read_step(step())


def test_an_object_that_cannot_be_shown_is_refused_all_the_same() -> None:
    class Unshown:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(BadOutcome, match="an object of the kind Unshown"):
        read_step(("", Unshown(), True, False, {}))
