"""A judge that answers, is slow, limits, fails and talks nonsense."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv
from tests.envs.judge.planted_server import BEGIN, END, PlantedServer

MakeEnv = Callable[..., RewardFunctionEnv]
Judged = Callable[..., list[tuple[float, dict[str, Any]]]]


def test_a_judge_is_asked_with_problem_response_answer_and_columns(
    make_env: MakeEnv, judged: Judged, server: PlantedServer
) -> None:
    template = f"{{problem}}/{{answer}}/{{rubric}}/{{meta.by}}/{{{{x}}}}/{BEGIN}{{response}}{END}"
    env = make_env({"template": template, "system": "You judge.", "extra_body": {"seed": 7}})
    # what is put in is not looked at again, whatever it looks like
    response = "score 3 {answer} {0.__class__} {{ %s"
    [(reward, info)] = judged(env, response)
    assert math.isnan(reward)  # "3 {answer} ..." is no number
    [body] = server.bodies
    assert body["messages"] == [
        {"role": "system", "content": "You judge."},
        {
            "role": "user",
            "content": f'What?/that/be {{kind}}/["me", 1]/{{x}}/{BEGIN}{response}{END}',
        },
    ]
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == (
        "m",
        0,
        256,
        7,
    )
    assert info["missing_reason"].startswith(
        "unreadable: the judge answered 'Hm. Score: 3 {answer}"
    )


FAULTS = {
    "score 0.25": "",
    "score -2": "",
    "broken-once 1": "",
    "limited": "rate limited: the judge says HTTP 429",
    "broken": "unreachable: the judge says HTTP 503",
    "cut": "unreachable: no connection to http://127.0.0.1",
    "html": "unreadable: the judge answered nothing",
    "garbage": "unreadable: ",
    "list": "unreadable: ",
    "empty": "unreadable: the judge answered nothing",
    "null": "unreadable: the judge answered nothing",
    "chatter": "unreadable: the judge answered 'I like it a lot.'",
    "score nan": "unreadable: the judge answered 'Hm. Score: nan'",
    "score inf": "unreadable: the judge answered 'Hm. Score: inf'",
    "refused": "crash: the judge says HTTP 400: ",
}


def test_whatever_goes_wrong_is_missing_with_its_reason_and_costs_no_other_verdict(
    make_env: MakeEnv, judged: Judged, server: PlantedServer
) -> None:
    env = make_env(success_at=0.0)
    outcomes = dict(zip(FAULTS, judged(env, *FAULTS), strict=True))
    for response, reason in FAULTS.items():
        reward, info = outcomes[response]
        if reason:
            assert math.isnan(reward), response
            assert info["is_correct"] is None
            assert info["missing_reason"].startswith(reason), (response, info)
        else:
            assert reward == float(response.split()[1])
            assert info["is_correct"] is (reward >= 0)
    # what may pass was asked again, what will not was not
    again = {"limited", "broken", "cut", "broken-once 1"}
    assert {r for r, count in server.asked.items() if count == 2} == again
    assert {count for r, count in server.asked.items() if r not in again} == {1}


def test_a_judge_that_is_too_slow_is_missing_after_two_attempts(
    make_env: MakeEnv, judged: Judged, server: PlantedServer
) -> None:
    outcomes = judged(make_env({"timeout": 1.0}), "slow", "drip")
    for reward, info in outcomes:
        assert math.isnan(reward)
        assert info["missing_reason"].startswith("timeout: the judge took more than 1 s"), info
    assert server.asked == {"slow": 2, "drip": 2}


def test_a_server_that_is_down_costs_verdicts_and_nothing_else(
    make_env: MakeEnv, judged: Judged
) -> None:
    env = make_env({"url": "http://127.0.0.1:9/v1", "retries": 0})
    outcomes = judged(env, *(f"score {n}" for n in range(20)))
    assert all(math.isnan(reward) for reward, _ in outcomes)
    assert {info["missing_reason"] for _, info in outcomes} == {
        "unreachable: no connection to http://127.0.0.1:9/v1 (judge)"
    }


def test_the_server_says_when_it_may_be_asked_again(
    make_env: MakeEnv, judged: Judged, server: PlantedServer
) -> None:
    [(reward, _)] = judged(make_env(), "limited-once 4")
    assert reward == 4.0
    first, second = server.times["limited-once 4"]
    assert second - first >= 1.0


def test_responses_are_judged_side_by_side(
    make_env: MakeEnv, judged: Judged, server: PlantedServer
) -> None:
    server.gate = threading.Barrier(30)
    env = make_env({"cache_entries": 0})
    assert [reward for reward, _ in judged(env, *["meet"] * 30)] == [1.0] * 30


def test_no_more_than_so_many_are_under_way(
    make_env: MakeEnv, judged: Judged, server: PlantedServer
) -> None:
    env = make_env({"concurrency": 3})
    assert [r for r, _ in judged(env, *(f"score {n}" for n in range(30)))] == list(range(30))
    assert server.most_at_once <= 3


def test_requests_are_spread_over_the_minute(
    make_env: MakeEnv, judged: Judged, server: PlantedServer
) -> None:
    env = make_env({"requests_per_minute": 600})
    judged(env, *(f"score {n}" for n in range(6)))
    times = sorted(time for times in server.times.values() for time in times)
    assert times[-1] - times[0] >= 0.45  # five gaps of 0.1 s, less what the first one took


def test_tokens_are_counted_as_the_server_does(
    make_env: MakeEnv, judged: Judged, server: PlantedServer
) -> None:
    # 12 tokens each by the server's count, which takes 0.1 s of a minute's 7,200; by what was
    # expected, 10,000 tokens of an answer, the second one would wait for more than a minute
    env = make_env({"tokens_per_minute": 7_200, "max_tokens": 10_000, "concurrency": 1})
    assert [r for r, _ in judged(env, *(f"score {n}" for n in range(4)))] == [0, 1, 2, 3]


def test_equal_questions_are_asked_once_and_failures_again(
    make_env: MakeEnv, judged: Judged, server: PlantedServer, tmp_path: Path
) -> None:
    file = str(tmp_path / "answers.sqlite")
    env = make_env({"cache_file": file, "retries": 0})
    outcomes = judged(env, "score 1", "score 1", "score 2", "chatter")
    assert [reward for reward, _ in outcomes][:3] == [1.0, 1.0, 2.0]
    assert [info["reward_metrics"]["cached"] for _, info in outcomes] == [0.0, 1.0, 0.0, 0.0]
    judged(env, "score 1", "chatter")
    assert server.asked == {"score 1": 1, "score 2": 1, "chatter": 2}

    # another process finds them in the file; a judge with other settings does too
    other = make_env({"cache_file": file, "retries": 5})
    [(reward, info)] = judged(other, "score 2")
    assert (reward, info["reward_metrics"]["cached"]) == (2.0, 1.0)
    # but not one that would answer otherwise
    judged(make_env({"cache_file": file, "model": "other"}), "score 2")
    assert server.asked["score 2"] == 2


def test_the_key_is_read_from_its_variable_and_shown_nowhere(
    make_env: MakeEnv,
    judged: Judged,
    server: PlantedServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "someone-elses")
    judged(make_env({"max_tokens": 9}), "score 1")
    assert server.keys == ["Bearer none"]

    monkeypatch.setenv("JUDGE_KEY", "sk-secret-123")
    with caplog.at_level(logging.DEBUG):
        env = make_env({"api_key_variable": "JUDGE_KEY"})
        [(_, info)] = judged(env, "refused")
    assert server.keys[-1] == "Bearer sk-secret-123"
    assert "no to Bearer ***" in info["missing_reason"]
    assert "sk-secret" not in caplog.text + repr(env.settings) + repr(info)


def test_other_parts_are_computed_where_they_belong(make_env: MakeEnv, judged: Judged) -> None:
    def long(prompt: str, responses: list[str]) -> list[float]:
        return [float(len(one)) for one in responses]

    def length(prompt: str, response: str) -> float:
        if response == "score 9":
            raise RuntimeError("no way")
        return float(len(response))

    parts = {"length": {"function": length, "weight": 0.5}, "form": {"regex": "score"}}
    for place in ("process", "here"):
        env = make_env(reward=parts, verify_in=place)
        first, second, third = judged(env, "score 1", "score 22", "score 9")
        assert (first[0], second[0]) == (1 + 3.5 + 1, 22 + 4 + 1)
        assert first[1]["reward_components"] == {"judge": 1.0, "length": 7.0, "form": 1.0}
        assert third[1]["missing_reason"] == (
            "crash: the scorer raised RuntimeError: no way (length)"
        )

        env = make_env(reward={"long": {"group": long}}, verify_in=place)
        tickets = env.submit_group(env.problem(0), ["score 1", "score 22"])
        assert [env.collect(ticket)[0] for ticket in tickets] == [8.0, 30.0]


def test_it_works_from_an_ordinary_step_and_a_direct_call(make_env: MakeEnv) -> None:
    env = make_env()
    env.reset(seed=0)
    assert env.step("score 2")[1] == 2.0
    assert env.score(env.problem(0), "score 3").reward == 3.0


def test_a_field_that_no_problem_has_is_refused(make_env: MakeEnv) -> None:
    with pytest.raises(ValueError, match=r"field \{rubrik\}, which is neither .*rubric") as caught:
        make_env({"template": "{response} {rubrik}"})
    assert "\n" not in str(caught.value)
