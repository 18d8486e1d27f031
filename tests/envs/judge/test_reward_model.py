"""A reward model behind a server: what it is asked, what its outputs are worth, what goes wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv
from rllib_dapo.envs.judge.reward_model_settings import check_reward_model_settings
from tests.envs.judge.planted_server import TEMPLATE, PlantedServer

MakeEnv = Callable[..., RewardFunctionEnv]
Judged = Callable[..., list[tuple[float, dict[str, Any]]]]
GOOD = {"url": "http://h:1/v1", "model": "m"}


def test_a_model_with_one_output_reads_the_conversation_and_gives_that_output(
    make_rated_env: MakeEnv, judged: Judged, server: PlantedServer
) -> None:
    [(reward, info)] = judged(make_rated_env(max_tokens=100), "score -1.75")
    assert reward == -1.75
    assert info["reward_components"] == {"judge": -1.75}
    [body] = server.bodies
    assert body == {
        "model": "m",
        "use_activation": False,
        "truncate_prompt_tokens": 100,
        "truncation_side": "left",
        "messages": [
            {"role": "user", "content": "What?"},
            {"role": "assistant", "content": "score -1.75"},
        ],
    }


def test_of_several_outputs_the_labels_probability_counts(
    make_rated_env: MakeEnv, judged: Judged, server: PlantedServer
) -> None:
    env = make_rated_env(label=2, template=TEMPLATE)
    assert [reward for reward, _ in judged(env, "scores 0.25 0.125 0.625")] == [0.625]
    [body] = server.bodies
    assert body["use_activation"] is True
    assert body["input"] == "Q: What? A: that R: <<scores 0.25 0.125 0.625>>"


@pytest.mark.parametrize(
    ("label", "outputs"),
    [(None, "0.5 0.5"), (2, "0.5 0.5"), (0, "nan"), (None, ""), (None, "inf")],
    ids=["no-label", "no-such-output", "nan", "none", "inf"],
)
def test_outputs_that_say_nothing_are_no_verdict(
    make_rated_env: MakeEnv, judged: Judged, label: int | None, outputs: str
) -> None:
    [(reward, info)] = judged(make_rated_env(label=label), f"scores {outputs}")
    assert math.isnan(reward)
    assert info["missing_reason"].startswith("unreadable: the reward model answered"), info


FAULTS = {
    "limited": "rate limited: the reward model says HTTP 429",
    "broken": "unreachable: the reward model says HTTP 503",
    "cut": "unreachable: no connection to http://127.0.0.1",
    "html": "unreadable: ",
    "garbage": "unreadable: ",
    "list": "unreadable: the reward model answered nothing",
    "empty": "unreadable: the reward model answered nothing",
    "null": "unreadable: the reward model answered nothing",
    "refused": "crash: the reward model says HTTP 400: ",
}


def test_whatever_goes_wrong_is_missing_with_its_reason_and_costs_no_other_verdict(
    make_rated_env: MakeEnv, judged: Judged
) -> None:
    outcomes = judged(make_rated_env(), "score 0.5", *FAULTS)
    assert outcomes[0][0] == 0.5
    for (reward, info), (response, reason) in zip(outcomes[1:], FAULTS.items(), strict=True):
        assert math.isnan(reward), response
        assert info["missing_reason"].startswith(reason), (response, info)


def test_an_equal_question_is_asked_once(
    make_rated_env: MakeEnv, judged: Judged, server: PlantedServer
) -> None:
    env = make_rated_env()
    assert [r for r, _ in judged(env, *["score 2"] * 5)] == [2.0] * 5
    assert server.asked["score 2"] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": "here"}, r"^rm\.url='here': must be an address such as"),
        ({"template": "rate it"}, r"^rm\.template='rate it': must be a text with the field"),
        ({"label": "good"}, r"^rm\.label='good': must be"),
        ({"label": -1}, r"^rm\.label=-1: must be"),
        ({"max_tokens": 0}, r"^rm\.max_tokens=0: must be"),
        ({"parser": "(.*)"}, r"^rm: unknown setting 'parser'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_reward_model_settings("rm", {**GOOD, **given})
    assert "\n" not in str(caught.value)


def test_a_folder_is_refused_with_the_setting_for_it() -> None:
    with pytest.raises(ValueError, match=r"^rm='/m': .* folder is the setting classifier$"):
        check_reward_model_settings("rm", "/m")
