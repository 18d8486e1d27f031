"""What a user's reward function may be, may take and may return."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.envs import Problem, Verdict
from rllib_dapo.envs.adapters.reward_function import RewardFunctionEnv
from rllib_dapo.envs.adapters.reward_results import read_result, read_results
from rllib_dapo.envs.adapters.reward_sources import make_reward

PROBLEM = Problem(prompt="1+1=", answer="2", problem_id="p", columns={"level": 3})
MakeEnv = Callable[..., RewardFunctionEnv]


@pytest.mark.parametrize(
    ("returned", "verdict"),
    [
        (2, Verdict(is_correct=None, reward=2.0)),
        (True, Verdict(is_correct=True)),
        ({"reward": 0.5}, Verdict(is_correct=None, reward=0.5)),
        ({"is_correct": False}, Verdict(is_correct=False)),
        (
            {"reward": 1, "is_correct": True, "components": {"a": 1}, "metrics": {"words": 3}},
            Verdict(is_correct=True, reward=1.0, components={"a": 1.0}, metrics={"words": 3.0}),
        ),
        ({"reward": 0.0, "components": None}, Verdict(is_correct=None, reward=0.0)),
    ],
)
def test_what_a_function_may_return(returned: Any, verdict: Verdict) -> None:
    assert read_result(returned) == verdict


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (None, "the function returned None"),
        ("good", "the function returned 'good'"),
        (math.inf, "the function returned inf"),
        ([1.0], "the function returned [1.0]"),
        ({}, "the function returned neither reward nor is_correct"),
        ({"reward": None}, "the function returned neither reward nor is_correct"),
        ({"reward": "1"}, "the function returned the reward '1'"),
        ({"reward": math.nan}, "the function returned the reward nan"),
        ({"reward": True}, "the function returned the reward True"),
        (
            {"reward": 1.0, "is_correct": 1},
            "the function returned is_correct=1, which is not a bool",
        ),
        (
            {"score": 1.0},
            "the function returned 'score' beside reward, is_correct, components, metrics",
        ),
        (
            {"reward": 1.0, "metrics": {"a": "b"}},
            "the function returned metrics that are not numbers by name",
        ),
        (
            {"reward": 1.0, "components": [1]},
            "the function returned components that are not numbers by name",
        ),
    ],
)
def test_anything_else_is_a_missing_verdict_with_its_reason(returned: Any, reason: str) -> None:
    assert read_result(returned) == Verdict(is_correct=None, reason=f"crash: {reason}")


def test_a_group_is_a_list_with_an_entry_for_each_response() -> None:
    assert [v.reward for v in read_results([1, 2.5], 2)] == [1.0, 2.5]
    assert [v.reason for v in read_results([1, None], 2)] == [
        "",
        "crash: the function returned None",
    ]
    for wrong in ([1.0], [1.0] * 3, {0: 1.0, 1: 2.0}, {1.0, 2.0}, "ab", 1.0, None):
        assert [v.reward for v in read_results(wrong, 2)] == [None, None]
        assert all(
            v.reason.startswith("crash: the function returned") for v in read_results(wrong, 2)
        )


def detailed(prompt: str, response: str, answer: str, columns: dict[str, Any]) -> dict[str, Any]:
    return {
        "reward": float(columns["level"]),
        "is_correct": response == answer,
        "components": {"form": 0.5},
        "metrics": {"words": len(response.split())},
    }


def test_components_and_metrics_stand_under_their_own_names_or_under_their_parts() -> None:
    alone = make_reward(detailed)(PROBLEM, "2")
    assert (alone.reward, alone.is_correct) == (3.0, True)
    assert alone.components == {"detailed": 3.0, "form": 0.5}
    assert alone.metrics == {"words": 1.0}

    summed = make_reward({"a": detailed, "b": {"regex": "x"}})(PROBLEM, "2")
    assert summed.components == {"a": 3.0, "b": 0.0, "a/form": 0.5}
    assert summed.metrics == {"a/words": 1.0}


def test_one_component_may_stand_without_a_name() -> None:
    verdict = make_reward({"rule": "last_number", "weight": 2})(PROBLEM, "it is 2")
    assert (verdict.reward, verdict.components) == (2.0, {"rule": 1.0})
    # components may be called like kinds of them
    named = make_reward({"rule": {"rule": "last_number"}, "regex": {"regex": "it"}})
    assert named(PROBLEM, "it is 2").components == {"rule": 1.0, "regex": 1.0}


class AsyncObject:
    async def __call__(self, prompt: str, response: str) -> float:
        await asyncio.sleep(0)
        return 5.0


async def waits(prompt: str, response: str, answer: str) -> float:
    """Waits as many seconds as the response says; "never" never ends, and "stuck" gives no way."""
    if response == "stuck":
        while True:
            time.sleep(0.01)
    await (asyncio.Event().wait() if response == "never" else asyncio.sleep(float(response)))
    return float(response)


def longest(prompt: str, responses: list[str]) -> list[float]:
    return [float(len(one) == max(map(len, responses))) for one in responses]


async def ranked(prompt: str, responses: list[str], answer: str, columns: dict) -> list[float]:
    await asyncio.sleep(0)
    return [sorted(responses).index(one) + columns["level"] for one in responses]


def picky(prompt: str, response: str) -> float:
    if response == "bad":
        raise RuntimeError("no\nway")
    return 1.0


def test_async_functions_are_awaited_wherever_they_are_asked() -> None:
    assert make_reward(AsyncObject())(PROBLEM, "x").reward == 5.0
    both = {"a": waits, "b": {"function": waits, "weight": 10}, "c": picky}
    assert make_reward(both)(PROBLEM, "0.01").reward == pytest.approx(1 + 0.11)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeEnv]:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "1+1=", "answer": "2", "level": 3}\n')
    made: list[RewardFunctionEnv] = []

    def make(**settings: Any) -> RewardFunctionEnv:
        made.append(RewardFunctionEnv({"path": str(path), **settings}))
        return made[-1]

    yield make
    for env in made:
        env.close()


def scored(env: RewardFunctionEnv, *responses: str) -> list[tuple[float, str]]:
    tickets = [env.submit(0, response) for response in responses]
    outcomes = [env.collect(ticket) for ticket in tickets]
    return [(reward, info.get("missing_reason", "")) for reward, info in outcomes]


def test_async_functions_wait_side_by_side_in_one_process(make: MakeEnv) -> None:
    """They meet: each waits until all have begun, which one after the other they never would."""
    env = make(reward=make_meeting(12), verify_processes=1, verify_seconds=60)
    # the process is busy with the first one until all others are in the queue
    first = env.submit(0, "first")
    rest = [env.submit(0, "other") for _ in range(12)]
    assert [env.collect(ticket)[0] for ticket in (first, *rest)] == [1.0] * 13


def make_meeting(number: int) -> Callable[..., Any]:
    there = []
    met: list[asyncio.Event] = []

    async def meets(prompt: str, response: str) -> float:
        if response == "first":
            await asyncio.sleep(0.2)
            return 1.0
        if not met:
            met.append(asyncio.Event())
        there.append(response)
        if len(there) == number:
            met[0].set()
        await met[0].wait()
        return 1.0

    return meets


def test_an_async_function_that_never_ends_costs_one_verdict(make: MakeEnv) -> None:
    env = make(reward=waits, verify_processes=1, verify_seconds=2.0)
    outcomes = scored(env, "0", "never", "0", "never", "0.01")
    assert [math.isnan(reward) for reward, _ in outcomes] == [False, True, False, True, False]
    assert outcomes[1][1] == outcomes[3][1] == "timeout: no verdict within 2 s"


def test_an_async_function_that_never_gives_way_costs_its_own_verdict_alone(make: MakeEnv) -> None:
    env = make(reward=waits, verify_processes=1, verify_seconds=1.0)
    outcomes = scored(env, "0.3", *["0"] * 6, "stuck", *["0"] * 6)
    assert [math.isnan(reward) for reward, _ in outcomes] == [False] * 7 + [True] + [False] * 6
    assert outcomes[7][1].startswith("timeout: ")


@pytest.mark.parametrize("place", ["here", "process"])
def test_a_group_is_judged_together(make: MakeEnv, place: str) -> None:
    env = make(
        reward={"long": {"group": longest}, "rank": {"group": ranked, "weight": 10}},
        verify_in=place,
    )
    assert env.scores_groups
    tickets = env.submit_group(env.problem(0), ["b", "aaa", "c"])
    outcomes = [env.collect(ticket) for ticket in tickets]
    assert [reward for reward, _ in outcomes] == [40.0, 31.0, 50.0]
    assert [info["reward_components"]["rank"] for _, info in outcomes] == [4.0, 3.0, 5.0]


@pytest.mark.parametrize("place", ["here", "process"])
def test_a_part_that_fails_on_one_response_of_a_group_costs_that_one(
    make: MakeEnv, place: str
) -> None:
    env = make(reward={"long": {"group": longest}, "picky": picky}, verify_in=place)
    outcomes = [env.collect(t) for t in env.submit_group(env.problem(0), ["bad", "good", "ok"])]
    assert [reward for reward, _ in outcomes][1:] == [2.0, 1.0]
    assert outcomes[0][1]["missing_reason"] == (
        "crash: the scorer raised RuntimeError: no way (picky)"
    )


@pytest.mark.parametrize("place", ["here", "process"])
def test_a_group_function_that_raises_leaves_the_group_without_verdicts(
    make: MakeEnv, place: str
) -> None:
    def raises(prompt: str, responses: list[str]) -> list[float]:
        raise KeyError("x")

    env = make(reward={"group": raises}, verify_in=place)
    outcomes = [env.collect(ticket) for ticket in env.submit_group(env.problem(0), ["a", "b"])]
    assert all(math.isnan(reward) for reward, _ in outcomes)
    assert {info["missing_reason"] for _, info in outcomes} == {
        "crash: the scorer raised KeyError: 'x'"
    }


def test_one_response_is_no_group(make: MakeEnv) -> None:
    env = make(reward={"group": longest})
    env.reset(seed=0)
    _, reward, _, _, info = env.step("x")
    assert math.isnan(reward)
    assert info["missing_reason"].startswith("crash: this environment compares the responses")
