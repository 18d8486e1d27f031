"""Environments that misbehave, and wrappers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup
from rllib_dapo.envs import Problem, SingleStepTextEnv, TextSpace, Verdict
from rllib_dapo.rollout.env_runner import TextEnvRunner
from rllib_dapo.rollout.group_decisions import Decision, decide

MakeConfig = Callable[..., DAPOConfig]


class ParityEnv(gym.Env):
    """Asks for an odd number; how it treats even ones is a setting."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.observation_space = self.action_space = TextSpace(100)
        self.even = config.get("even", "raise")

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[str, dict]:
        return f"{seed}+0=", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        if action[-1:] in ("1", "3", "5", "7", "9"):
            return "", 1.0, True, False, {"is_correct": True}
        if self.even == "raise":
            raise OverflowError("this text was not foreseen")
        if self.even == "infinite":
            return "", math.inf, True, False, {"is_correct": False}
        return "", -1.0, True, False, {"is_correct": False}


def groups_of(runner: TextEnvRunner, seeds: range | list[int], **kwargs: Any) -> list[PromptGroup]:
    return [sampled.group() for sampled in runner.sample_groups(seeds, **kwargs).groups]


@pytest.mark.parametrize("even", ["raise", "infinite"])
def test_an_environment_without_a_verdict_gives_a_missing_reward(
    rollout_config: MakeConfig, even: str
) -> None:
    runner = TextEnvRunner(config=rollout_config(ParityEnv, even=even))
    responses = [response for group in groups_of(runner, range(6)) for response in group.responses]

    for response in responses:
        if response.text[-1:] in ("1", "3", "5", "7", "9"):
            assert (response.reward, response.is_correct, response.is_missing) == (1.0, True, False)
        else:
            assert math.isnan(response.reward)
            assert response.is_correct is None
            assert response.is_missing
            raised = "crash: the environment raised OverflowError: this text was not foreseen"
            assert response.reason == (raised if even == "raise" else "the reward is inf")

    assert {response.is_missing for response in responses} == {True, False}


def test_training_leaves_missing_rewards_out(rollout_config: MakeConfig, cluster: None) -> None:
    config = (
        rollout_config(ParityEnv)
        .training(prompts_per_step=4, group_size=8)
        .dynamic_sampling(enabled=False)
    )
    expected = [group.summary() for group in groups_of(TextEnvRunner(config=config), range(4))]
    known = [[not math.isnan(reward) for reward in group.rewards] for group in expected]
    assert {decide(group, dynamic_sampling=False) for group in expected} == {Decision.ACCEPTED}
    assert sum(map(sum, known)) < 32

    algo = config.build_algo()
    try:
        result = algo.train()
    finally:
        algo.stop()

    trained = sum(
        np.dot(group.loss_tokens, row) for group, row in zip(expected, known, strict=True)
    )
    assert result["learners"][DEFAULT_MODULE_ID]["trained_tokens"] == trained
    assert result["env_runners"]["missing_reward_fraction"] == 1 - sum(map(sum, known)) / 32
    assert result["env_runners"]["episode_return_mean"] == 1.0


def hostile_env() -> type[SingleStepTextEnv]:
    """An environment whose scorer hangs, exits or eats memory on some digits.

    Its class is defined in here, so that it is pickled by value, as a notebook's is.
    """

    class HostileEnv(SingleStepTextEnv):
        def problem(self, seed: int) -> Problem:
            return Problem(prompt=f"{seed}+0=", answer="", problem_id=str(seed))

        def score(self, problem: Problem, response: str) -> Verdict:
            import os

            eaten = []
            while response[-1:] in ("0", "4"):
                eaten += [bytearray(1 << 24)] if response[-1:] == "4" else []
            if response[-1:] == "2":
                os._exit(1)
            return Verdict(is_correct=response[-1:] in ("1", "3", "5", "7", "9"))

    return HostileEnv


HOSTILE_SETTINGS = {
    "verify_in": "process",
    "verify_seconds": 2,
    "verify_memory_mib": 64,
    "verify_processes": 2,
}


REASONS = {
    "0": "timeout: step: no reply within 2 s",
    "2": "crash: step: the process ended with status 1",
    "4": "crash: the scorer raised MemoryError",
}


def is_scorer(process: psutil.Process) -> bool:
    try:
        return "serve.py" in str(process.cmdline())
    except psutil.Error:  # it has just ended
        return False


def test_a_scorer_that_hangs_exits_or_eats_memory_costs_its_own_verdicts_alone(
    rollout_config: MakeConfig,
) -> None:
    others = set(psutil.Process().children())  # of tests before this one
    runner = TextEnvRunner(config=rollout_config(hostile_env(), **HOSTILE_SETTINGS))
    responses = [response for group in groups_of(runner, range(10)) for response in group.responses]

    for response in responses:
        digit = response.text[-1:]
        assert response.is_missing is (digit in REASONS)
        assert response.reason.startswith(REASONS.get(digit, ""))
        assert (response.reason == "") is (digit not in REASONS)
        if not response.is_missing:
            assert response.is_correct is (digit in ("1", "3", "5", "7", "9"))
    assert {response.text[-1:] for response in responses} >= REASONS.keys()

    own = [p for p in psutil.Process().children() if p not in others and is_scorer(p)]
    runner.stop()
    _, alive = psutil.wait_procs(own, timeout=120)
    assert not alive


@pytest.mark.slow
def test_training_goes_on_beside_a_scorer_that_fails(
    rollout_config: MakeConfig, cluster: None
) -> None:
    config = rollout_config(hostile_env(), **HOSTILE_SETTINGS).env_runners(num_env_runners=1)
    algo = (
        config.training(prompts_per_step=4, group_size=8)
        .dynamic_sampling(enabled=False)
        .build_algo()
    )

    try:
        results = [algo.train() for _ in range(2)]
    finally:
        algo.stop()

    for result in results:
        assert 0 < result["env_runners"]["missing_reward_fraction"] < 1
        assert result["learners"][DEFAULT_MODULE_ID]["trained_tokens"] > 0


class DoubledEnv(gym.Wrapper):
    """Doubles the rewards of sums."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(gym.make("rllib_dapo/Arithmetic-v0", max_operand=9))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict]:
        observation, reward, *rest = super().step(action)
        return observation, 2 * float(reward), *rest


def test_a_wrapper_has_its_say_in_every_reward(rollout_config: MakeConfig) -> None:
    runner = TextEnvRunner(config=rollout_config(DoubledEnv))
    rewards = {
        response.reward for group in groups_of(runner, range(20)) for response in group.responses
    }
    assert rewards == {-2.0, 2.0}
