"""What tests of both ways of dispatching prompt seeds need: EnvRunners, and what they sampled."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.tune import register_env

from rllib_dapo import DAPOConfig
from rllib_dapo.envs import Problem
from rllib_dapo.envs.arithmetic import ArithmeticEnv
from rllib_dapo.rollout.rollout_result import RolloutResult

Samples = dict[int, list[list[int]]]


def register_mortal_env() -> str:
    """Registers an environment that kills its process when it scores a response to `deadly_seed`.

    It does so once: the file `grave` that it leaves behind spares whoever is given that seed next.
    """

    def make(context: Any) -> gym.Env:
        grave, deadly_seed = Path(context["grave"]), context["deadly_seed"]

        # Defined in here, so that it is pickled by value: workers cannot import a test.
        class MortalEnv(ArithmeticEnv):
            def problem(self, seed: int) -> Problem:
                self.seed = seed
                return super().problem(seed)

            def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
                if self.seed == deadly_seed and not grave.exists():
                    grave.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().step(action)

        return MortalEnv({"max_operand": 9})

    register_env("mortal", make)
    return "mortal"


def register_hanging_env() -> str:
    """Registers an environment that hangs when it is to score a response to `deadly_seed`.

    With `once` it does so as long as there is no file `grave`, which it then leaves behind.
    """

    def make(context: Any) -> gym.Env:
        grave, deadly_seed, once = Path(context["grave"]), context["deadly_seed"], context["once"]

        class HangingEnv(ArithmeticEnv):
            def problem(self, seed: int) -> Problem:
                self.seed = seed
                return super().problem(seed)

            def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
                if self.seed == deadly_seed and not (once and grave.exists()):
                    grave.touch()
                    time.sleep(3600)
                return super().step(action)

        return HangingEnv({"max_operand": 9})

    register_env("hanging", make)
    return "hanging"


def register_dull_env() -> str:
    """Registers an environment in which all is right from the problem `dull_from` on.

    Verdicts on the problems before it are drawn, so groups of many responses have both.
    """

    def make(context: Any) -> gym.Env:
        dull_from = context["dull_from"]

        class DullEnv(ArithmeticEnv):
            def problem(self, seed: int) -> Problem:
                self.seed = seed
                return super().problem(seed)

            def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
                is_correct = self.seed >= dull_from or random.random() < 0.5
                return "", 1.0 if is_correct else -1.0, True, False, {"is_correct": is_correct}

        return DullEnv({"max_operand": 9})

    register_env("dull", make)
    return "dull"


@contextmanager
def env_runners(config: DAPOConfig) -> Iterator[EnvRunnerGroup]:
    """EnvRunners that are stopped at the end."""
    group = EnvRunnerGroup(config=config, local_env_runner=False)
    try:
        yield group
    finally:
        group.stop()


@contextmanager
def lone_env_runner(
    rollout_config: Callable[..., DAPOConfig], folder: Path
) -> Iterator[EnvRunnerGroup]:
    """One EnvRunner, never restarted, which dies of a response to seed 100.

    Args:
        rollout_config: Makes the configuration.
        folder: Where it leaves its grave.
    """
    config = rollout_config(
        register_mortal_env(), deadly_seed=100, grave=str(folder / "grave")
    ).env_runners(num_env_runners=1)
    with env_runners(config.fault_tolerance(restart_failed_env_runners=False)) as group:
        yield group


def samples_of(results: Sequence[RolloutResult]) -> Samples:
    """Tokens by seed; refuses a seed that comes twice."""
    sampled = [group for result in results for group in result.groups]
    samples = {s.summary.seed: [r.token_ids.tolist() for r in s.group().responses] for s in sampled}
    assert len(samples) == len(sampled)
    return samples
