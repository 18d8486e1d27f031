"""When a trial ends, and what its result then says."""

from __future__ import annotations

import math
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from rllib_dapo.run.search.stoppers import (
    RunStopper,
    SchedulerReason,
    StopRules,
    broken_rules,
    check_stop_rule,
    check_stop_rules,
)

RULES = StopRules(entropy_below=0.1, entropy_above=3.0, reward_nan=True, patience=2)


def _result(
    *, entropy: float = 1.0, reward: float = 0.5, updates: float = 4.0, **others: Any
) -> dict[str, Any]:
    return {
        "training_iteration": 1,
        "env_runners": {
            "episode_return_mean": reward,
            "missing_reward_fraction": 0.0 if reward == reward else 1.0,
        },
        "learners": {"default_policy": {"entropy": entropy, "gradient_updates": updates}},
    } | others


@pytest.mark.parametrize(
    ("result", "rule", "said"),
    [
        (
            _result(entropy=0.04),
            "entropy_below",
            "entropy collapse: 0.04 nats, under stop.entropy_below=0.1",
        ),
        (
            _result(entropy=3.5),
            "entropy_above",
            "entropy blow-up: 3.5 nats, over stop.entropy_above=3",
        ),
        (_result(entropy=math.nan), "entropy_above", "entropy blow-up: nan nats"),
        (
            _result(reward=math.nan),
            "reward_nan",
            "reward is not a number: 100% of the responses have no verdict",
        ),
        (_result(reward=-math.inf), "reward_nan", "reward is not a number"),
    ],
)
def test_each_rule_tells_what_it_saw(result: dict[str, Any], rule: str, said: str) -> None:
    found = broken_rules(result, RULES)
    assert list(found) == [rule]
    assert said in found[rule]
    assert broken_rules(result, StopRules()) == {}


def test_an_iteration_without_an_update_says_nothing_of_the_entropy() -> None:
    assert broken_rules(_result(entropy=math.nan, updates=math.nan), RULES) == {}
    assert broken_rules(_result() | {"learners": {}}, RULES) == {}


def test_a_trial_ends_when_a_rule_has_held_for_long_enough_without_a_pause() -> None:
    stopper = RunStopper(limits={}, rules=RULES)
    low, well = _result(entropy=0.01), _result()
    assert [stopper("a", one) for one in (low, well, low)] == [False, False, False]
    assert not stopper("b", dict(low))  # each trial for itself
    last = _result(entropy=0.02)
    assert stopper("a", last)
    assert (
        last["stop_reason"]
        == "entropy collapse: 0.02 nats, under stop.entropy_below=0.1, for 2 iterations"
    )
    assert "stop_reason" not in well


def test_a_limit_is_reached_by_its_name_however_it_is_nested() -> None:
    stopper = RunStopper(
        limits={"training_iteration": 5, "env_runners/reward_components/format": 0.9}
    )
    result = _result(env_runners={"reward_components/format": 0.95, "reward_components/other": 2.0})
    assert stopper("a", result)
    assert result["stop_reason"] == "env_runners/reward_components/format reached 0.9"
    last = _result() | {"training_iteration": 5}
    assert stopper("a", last)
    assert last["stop_reason"] == "training_iteration reached 5"
    assert not stopper("a", _result(env_runners={"reward_components/format": math.nan}))
    assert not RunStopper(limits={"evaluation/env_runners/avg@8": 0.5})("a", _result())


def test_a_stopper_travels_with_the_state_of_an_interrupted_run() -> None:
    stopper = RunStopper(limits={"training_iteration": 5}, rules=RULES)
    stopper("a", _result(entropy=0.01))
    again = pickle.loads(pickle.dumps(stopper))
    assert again("a", _result(entropy=0.01))
    assert not again.stop_all()


def test_a_trial_that_the_scheduler_ended_says_so() -> None:
    callback = SchedulerReason("asha", max_t=8)
    ended, ours, running, last = (
        {"training_iteration": 3, "done": True},
        {"training_iteration": 3, "done": True, "stop_reason": "entropy"},
        {"training_iteration": 3, "done": False},
        {"training_iteration": 8, "done": True},
    )
    for result in (ended, ours, running, last):
        callback.on_trial_result(1, [], SimpleNamespace(), result)  # type: ignore[arg-type]
    assert ended["stop_reason"] == "asha: others did better"
    assert last["stop_reason"] == "asha: max_t of 8 iterations reached"
    assert ours["stop_reason"] == "entropy"
    assert "stop_reason" not in running


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("entropy_below", "low", "stop.entropy_below='low' must be a number over 0"),
        ("entropy_below", 0, "must be a number over 0"),
        ("entropy_above", True, "must be a number over 0"),
        ("reward_nan", 1, "stop.reward_nan=1 must be true or false"),
        ("patience", 0, "must be a whole number of at least 1"),
        ("patience", 1.5, "must be a whole number of at least 1"),
    ],
)
def test_a_rule_of_no_use_is_found(name: str, value: Any, said: str) -> None:
    (problem,) = check_stop_rule(name, value)
    assert said in problem
    assert not list(check_stop_rule("entropy_above", None))


def test_rules_under_which_nothing_would_go_on_are_found() -> None:
    (problem,) = check_stop_rules(StopRules(entropy_below=2.0, entropy_above=1.0))
    assert "stop.entropy_below=2.0 must be under stop.entropy_above=1.0" in problem
    assert not list(check_stop_rules(RULES))
