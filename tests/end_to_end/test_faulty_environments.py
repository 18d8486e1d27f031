"""Training goes on beside environments that hang, die, raise or cannot be seeded; it is counted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPOConfig


def faulty_env() -> type[gym.Env]:
    """An environment with a fault for each seed modulo 8 up to 3, or with the same for all.

    Its class is defined in here, so that it is pickled by value, as a notebook's is.
    """

    class FaultyEnv(gym.Env):
        def __init__(self, only: str = "") -> None:
            self.only = only

        def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
            import random

            faults = ("raise", "hang", "die", "unseeded")
            self.fault = self.only or dict(enumerate(faults)).get((seed or 0) % 8, "")
            if self.fault == "raise":
                raise LookupError(f"no problem {seed}")
            first = random.SystemRandom().randrange(10**4) if self.fault == "unseeded" else seed
            return f"{first}+0=", {}

        def step(self, action: str) -> Any:
            import os
            import time

            while self.fault == "hang":
                time.sleep(1)
            if self.fault == "die":
                os.kill(os.getpid(), 11)
            is_odd = action[-1:] in ("1", "3", "5", "7", "9")
            return "", float(is_odd), True, False, {"is_correct": is_odd}

    return FaultyEnv


def faulty_config(model: Path, **env_config: Any) -> DAPOConfig:
    return (
        DAPOConfig()
        .environment(faulty_env(), env_config=env_config)
        .language_model(str(model), dtype="float32", num_threads=1)
        .rollout(engine="transformers", max_prompt_tokens=8, max_response_tokens=2)
        .training(prompts_per_step=8, group_size=4, minibatch_size=32)
        .dynamic_sampling(enabled=False, max_rounds=1, max_rounds_without_verdict=1)
        .overlong(buffer_tokens=1)
        .env_runners(num_env_runners=0)
    )


@pytest.mark.slow
def test_training_goes_on_and_every_fault_is_counted(
    raw_model: Path, cluster: None, caplog: pytest.LogCaptureFixture
) -> None:
    algo = faulty_config(
        raw_model, verify_in="process", verify_seconds=3, verify_processes=4
    ).build_algo()
    try:
        with caplog.at_level(logging.WARNING):
            results = [algo.train() for _ in range(2)]
    finally:
        algo.stop()

    # One prompt of each fault among eight; all others have verdicts, and train.
    for result in results:
        figures = result["env_runners"]
        assert figures["groups_prompt_lost"] == 1
        assert figures["missing_timeout"] == 4
        assert figures["missing_crash"] == 4
        assert figures["missing_not_seeded"] == 4
        assert figures["missing_reward_fraction"] == 12 / 28
        assert figures["groups_accepted"] == 4
        assert result["learners"][DEFAULT_MODULE_ID]["trained_tokens"] > 0

    told = [record.message for record in caplog.records if "(said once)" in record.message]
    for fault in (
        "the environment raised LookupError: no problem",
        "timeout: step: no reply within 3 s",
        "crash: step: the process died of signal 11",
        "not seeded: reset(seed=",
    ):
        assert sum(fault in message for message in told) == 1


@pytest.mark.slow
def test_a_run_ends_in_one_line_where_the_fault_is_the_rule(raw_model: Path, cluster: None) -> None:
    algo = faulty_config(raw_model, only="unseeded").build_algo()
    try:
        with pytest.raises(RuntimeError, match=r"^environment\.env=.*FaultyEnv cannot be seeded"):
            algo.train()
    finally:
        algo.stop()
