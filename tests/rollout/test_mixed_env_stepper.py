"""A mixture under a stepper: each environment is stepped as it would be alone."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import wait
from typing import Any

import gymnasium as gym
import pytest

from rllib_dapo.envs import Turn, TurnsEnv
from rllib_dapo.envs.mixture import MIXTURE
from rllib_dapo.rollout.env_stepper import EnvStepper
from rllib_dapo.rollout.make_env_stepper import make_env_stepper
from rllib_dapo.rollout.make_environment import make_environment
from rllib_dapo.rollout.mixed_env_stepper import MixedEnvStepper

PATIENCE_S = 600  # against hanging only
SUMS = {"env": "rllib_dapo/Arithmetic-v0", "name": "sums"}


class TwoTurnsEnv(TurnsEnv):
    """Two responses; the second is worth something. It dies of the word `die`."""

    default_settings = {**TurnsEnv.default_settings, "max_turns": 2}  # noqa: RUF012

    def begin(self, seed: int) -> str:
        self.said: list[str] = []
        self.seed = seed
        return f"turns {seed}"

    def turn(self, response: str) -> Turn:
        if response == "die":
            os._exit(3)
        self.said.append(response)
        if len(self.said) < 2:
            return Turn(observation=f"again {self.seed}", reward=0.0, done=False)
        return Turn(is_correct=self.said == ["a", "b"])


TURNS = {"env": TwoTurnsEnv, "name": "turns", "env_config": {"verify_in": "process"}}


@pytest.fixture(scope="module")
def stepper() -> Iterator[EnvStepper]:
    made = make_env_stepper(
        lambda _: make_environment(MIXTURE, {"environments": [SUMS, TURNS]}), num_threads=1
    )
    yield made
    made.close()


def _step(stepper: EnvStepper, episode: int, seed: int, text: str) -> Any:
    step = stepper.begin_step(episode, seed, text)
    _, late = wait([step.future], PATIENCE_S)
    assert not late
    return step.result()


def test_episodes_of_one_and_of_several_turns_go_side_by_side(stepper: EnvStepper) -> None:
    assert isinstance(stepper, MixedEnvStepper)
    assert stepper.may_go_on
    resets = stepper.prompts([0, 1, 2, 3])
    assert [reset.seed for reset in resets] == [0, 1, 2, 3]
    turns = {reset.seed: reset.prompt for reset in resets if "turns" in str(reset.prompt)}
    assert sorted(turns.values()) == ["turns 0", "turns 1"]
    first, second = turns

    # two episodes of several turns, and one sum between their turns
    assert _step(stepper, 10, first, "a").observation == "again 0"
    assert _step(stepper, 11, second, "x").observation == "again 1"
    (sum_seed, *_) = (seed for seed in range(4) if seed not in turns)
    assert _step(stepper, 12, sum_seed, "nothing").is_correct is False
    assert _step(stepper, 10, first, "b").is_correct is True
    assert _step(stepper, 11, second, "b").is_correct is False
    for episode in (10, 11, 12, 99):
        stepper.end_episode(episode)
    stepper.forget([0, 1, 2, 3])


def test_an_environment_that_dies_costs_its_own_episode(stepper: EnvStepper) -> None:
    resets = stepper.prompts([0, 1])
    (turns,) = (reset.seed for reset in resets if "turns" in str(reset.prompt))
    lost = _step(stepper, 1, turns, "die")
    assert math.isnan(lost.reward)
    assert lost.reason.startswith("crash: ")
    assert _step(stepper, 2, 1 - turns, "nothing").reward == -1.0
    assert _step(stepper, 3, turns, "a").is_done is False


def test_an_environment_that_cannot_be_made_ends_the_others() -> None:
    bad = {"env": "rllib_dapo/Arithmetic-v0", "env_config": {"max_operand": -1}, "name": "bad"}
    mixture = make_environment(MIXTURE, {"environments": [TURNS, bad]})
    with pytest.raises(ValueError, match=r"^environments\[1\] \(bad\): max_operand=-1"):
        make_env_stepper(lambda _: mixture, num_threads=1)


def test_the_first_environment_tells_of_all_parts(stepper: EnvStepper) -> None:
    env: gym.Env[Any, Any] = stepper.env
    assert len(env.envs) == 2
    assert env.problems is None
