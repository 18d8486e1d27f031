"""Environments in processes of their own: what hangs, dies or misbehaves there costs one call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import psutil
import pytest

from rllib_dapo.envs.hosts.environment_service import Recipe
from rllib_dapo.envs.hosts.host_settings import HostSettings, take_host_settings
from rllib_dapo.envs.hosts.hosted_env import HostedEnv
from rllib_dapo.envs.hosts.outcomes import BadOutcome
from rllib_dapo.envs.processes.replies import DeadlineMissed, ProcessDied, ServiceFailed

PATIENT = HostSettings(seconds=120.0)


def odd_env() -> type[gym.Env]:
    """An environment that does what it is told to do.

    Its class is defined in here, so that it is pickled by value, as a notebook's is.
    """

    class OddEnv(gym.Env):
        def __init__(self, size: int = 4, at_start: str = "", at_close: str = "") -> None:
            self.size, self.at_close = size, at_close
            self.do(at_start)

        def do(self, what: str) -> Any:
            import os
            import time

            while what == "hang":
                time.sleep(1)
            if what == "exit":
                os._exit(3)
            if what == "segv":
                os.kill(os.getpid(), 11)
            if what == "eat":
                return bytearray(1 << 40)
            if what == "raise":
                raise KeyError("lost")
            if what == "leave":
                raise SystemExit(2)
            return None

        def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
            self.do((options or {}).get("do", ""))
            self.said: list[str] = []
            return f"{self.size}/{seed}", {"answer": 7}

        def step(self, action: str) -> Any:
            self.do(action)
            self.said.append(action)
            if action == "none":
                return "", None, True, False, {}
            is_over = action == "end"
            return " ".join(self.said), len(self.said), is_over, False, {"is_correct": is_over}

        def close(self) -> None:
            self.do(self.at_close)

    return OddEnv


Make = Callable[..., HostedEnv]


@pytest.fixture
def make() -> Iterator[Make]:
    made = []

    def make_env(settings: HostSettings = PATIENT, **config: Any) -> HostedEnv:
        made.append(HostedEnv(Recipe(env=odd_env(), config=config), settings))
        return made[-1]

    yield make_env
    for env in made:
        env.close()


def test_an_episode_of_several_turns_is_the_environments_own(make: Make) -> None:
    env = make(size=6)
    assert env.reset(seed=3) == ("6/3", {"answer": "7"})
    assert env.step("a")[:4] == ("a", 1.0, False, False)
    observation, reward, *over, info = env.step("end")
    assert (observation, reward, over) == ("a end", 2.0, [True, False])
    assert info["is_correct"] is True


@pytest.mark.parametrize(
    ("action", "failure", "told"),
    [
        ("exit", ProcessDied, "the process ended with status 3"),
        ("segv", ProcessDied, "the process died of signal 11"),
        ("eat", ServiceFailed, r"^out of memory \(verify_memory_mib=1024\)$"),
        ("raise", ServiceFailed, "KeyError: 'lost'"),
        ("leave", ServiceFailed, "SystemExit: 2"),
        ("none", BadOutcome, "the reward is None: it must be a number"),
    ],
)
def test_a_call_that_fails_costs_its_episode_and_the_next_one_is_whole(
    make: Make, action: str, failure: type[Exception], told: str
) -> None:
    env = make()
    env.reset(seed=1)
    with pytest.raises(failure, match=told):
        env.step(action)
    assert env.reset(seed=2)[0] == "4/2"
    assert env.step("end")[1] == 1.0


def test_a_call_that_hangs_ends_at_its_deadline(make: Make) -> None:
    env = make(HostSettings(seconds=0.5))
    env.reset(seed=1)
    process = psutil.Process(env.pid)
    with pytest.raises(DeadlineMissed, match=r"no reply within 0\.5 s"):
        env.step("hang")
    assert not process.is_running()
    with pytest.raises(gym.error.ResetNeeded):
        env.step("end")

    with pytest.raises(DeadlineMissed):
        env.reset(seed=1, options={"do": "hang"})


def test_a_stopped_process_is_as_one_that_hangs(make: Make) -> None:
    env = make(HostSettings(seconds=0.5))
    psutil.Process(env.pid).suspend()
    with pytest.raises(DeadlineMissed):
        env.reset(seed=1)


def test_an_environment_that_refuses_to_be_made_is_told_in_one_line(make: Make) -> None:
    with pytest.raises(ValueError, match=r"unknown setting 'sise' .* did you mean 'size'\?"):
        make(sise=3)
    with pytest.raises(ValueError, match=r"^KeyError: 'lost'$"):
        make(at_start="raise")
    with pytest.raises(ProcessDied, match="signal 11"):
        make(at_start="segv")


def test_making_one_has_a_deadline_too(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rllib_dapo.envs.hosts.hosted_env._MAKE_SECONDS", 0.5)
    with pytest.raises(DeadlineMissed, match="not made within"):
        make(at_start="hang")


@pytest.mark.parametrize("at_close", ["", "hang", "raise", "segv"])
def test_closing_leaves_no_process_whatever_the_environment_does(make: Make, at_close: str) -> None:
    env = make(HostSettings(seconds=0.5), at_close=at_close)
    process = psutil.Process(env.pid)
    env.close()
    assert not process.is_running()
    env.close()


def test_what_cannot_be_sent_is_refused() -> None:
    import threading

    with pytest.raises(ValueError, match="cannot be sent to another process"):
        HostedEnv(Recipe(env=odd_env(), config={"size": threading.Lock()}))


def test_registered_environments_and_functions_are_made_there_too() -> None:
    config = {"max_operand": 9, "verify_in": "here"}
    env = HostedEnv(Recipe(env=gym.spec("rllib_dapo/Arithmetic-v0"), config=config), PATIENT)
    prompt, info = env.reset(seed=1)
    assert env.step(info["answer"])[1] == 1.0
    env.close()

    made = HostedEnv(
        Recipe(
            env=lambda config: gym.make("rllib_dapo/Arithmetic-v0", **config),
            takes_mapping=True,
            config={"max_operand": 9},
        ),
        PATIENT,
    )
    assert made.reset(seed=1)[0] == prompt
    made.close()


def test_nothing_but_numbers_and_texts_comes_back(make: Make) -> None:
    env = make()
    env.reset(seed=1)
    *_, info = env.step("\ud800 half a character")
    assert math.isfinite(info["reward_if_cut_off"])
    assert env.step("end")[0] == "\ud800 half a character end"


def test_which_environments_run_in_a_process_of_their_own() -> None:
    bounds = {"verify_seconds": 2, "verify_memory_mib": 64, "verify_processes": 3}
    given = {"verify_in": "process", **bounds, "size": 5}
    settings = HostSettings(seconds=2.0, memory_mib=64, processes=3)
    assert take_host_settings(odd_env(), given) == (settings, {"size": 5})
    assert take_host_settings("rllib_dapo/CalculatorMath-v0", given) == (settings, {"size": 5})
    assert take_host_settings("CartPole-v1", given) == (settings, {"size": 5})
    assert take_host_settings(odd_env(), {"size": 5}) == (None, {"size": 5})
    assert take_host_settings(odd_env(), {"size": 5, "verify_in": "here"}) == (None, {"size": 5})
    # It has these settings itself, and scores by a rule of this package.
    assert take_host_settings("rllib_dapo/Arithmetic-v0", given) == (None, given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("verify_in", "there"),
        ("verify_seconds", 0),
        ("verify_seconds", "5"),
        ("verify_memory_mib", 1.5),
        ("verify_processes", 0),
    ],
)
def test_settings_of_the_process_are_checked(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}="):
        take_host_settings(odd_env(), {"verify_in": "process", name: value})
