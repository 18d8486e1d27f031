"""A verifier that hangs, dies or eats memory on some responses.

Training goes on, and nobody else's verdict suffers.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.envs import Problem, Verdict
from rllib_dapo.envs.arithmetic import ArithmeticEnv
from rllib_dapo.envs.base import Ticket

Make = Callable[..., DAPOConfig]

SECONDS = 10.0  # the deadline: much longer than any other verdict takes, however busy the machine
RESPONSES = 32  # of an iteration: 4 prompts with 8 each
FAULTS = {3: "sleep", 11: "exit", 19: "eat"}  # by a response's number within its iteration


def faulty_environment(faults: Mapping[int, str]) -> type[ArithmeticEnv]:
    """Sums whose verifier fails on some responses.

    Made here so that it travels whole: no other process can import a test. Each verdict writes a
    line to the file `log`.
    """

    def judge(response: str, answer: str, number: float) -> Verdict:
        import os
        import time

        fault = faults.get(int(number) % RESPONSES)
        if fault == "sleep":
            time.sleep(1e6)
        elif fault == "exit":
            os._exit(3)
        eaten = []
        while fault == "eat":
            eaten.append(bytearray(1 << 24))
        return Verdict(is_correct=response.strip() == answer, prediction=response.strip()[:20])

    class FaultyEnv(ArithmeticEnv):
        default_settings = {**ArithmeticEnv.default_settings, "log": ""}  # noqa: RUF012

        def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
            super().__init__(config, **kwargs)
            self._numbers = itertools.count()

        def scoring_rule(self) -> Callable[..., Verdict]:
            return judge

        def scoring_arguments(self, problem: Problem, response: str) -> tuple[str | float, ...]:
            return response, problem.answer, float(next(self._numbers))

        def submit_to(self, problem: Problem, response: str) -> Ticket:
            ticket = super().submit_to(problem, response)

            def note(outcome: Any) -> None:
                verdict = outcome.result()
                line = json.dumps({"reason": verdict.reason, "is_correct": verdict.is_correct})
                with Path(self.settings["log"]).open("a") as file:
                    file.write(f"{line}\n")

            ticket.outcome.add_done_callback(note)
            return ticket

    return FaultyEnv


@contextmanager
def running(config: DAPOConfig) -> Iterator[DAPO]:
    algo = config.build_algo()
    try:
        yield algo
    finally:
        algo.stop()


def with_faults(config: DAPOConfig, faults: Mapping[int, str], log: Path) -> DAPOConfig:
    scoring = {
        "verify_in": "process",
        "verify_seconds": SECONDS,
        "verify_memory_mib": 128,
        "verify_processes": 2,
    }
    config.environment(
        faulty_environment(faults), env_config={"max_operand": 9, "log": str(log), **scoring}
    )
    config.evaluation(evaluation_num_prompts=4, evaluation_samples_per_prompt=8)
    return config.dynamic_sampling(enabled=False, max_rounds=1)


@pytest.mark.slow
@pytest.mark.parametrize("num_env_runners", [pytest.param(0, marks=pytest.mark.exhaustive), 1])
def test_training_goes_on_and_only_the_bad_verdicts_are_missing(
    cluster: None, small_config: Make, tmp_path: Path, num_env_runners: int
) -> None:
    log = tmp_path / "verdicts.jsonl"
    config = small_config(engine="transformers", num_env_runners=num_env_runners)
    with running(with_faults(config, FAULTS, log)) as algo:
        results = [algo.train() for _ in range(3)]
        evaluation = algo.evaluate()
    for figures in (*(result["env_runners"] for result in results), evaluation["env_runners"]):
        assert (figures["missing_timeout"], figures["missing_crash"]) == (1, 2)
        assert (figures["missing_too_long"], figures["missing_other"]) == (0, 0)
        assert figures["missing_reward_fraction"] == len(FAULTS) / RESPONSES
    for result in results:
        assert result["learners"]["default_policy"]["gradient_updates"] > 0
        assert result["env_runners"]["groups_accepted"] == 4

    # Of each iteration, and of the evaluation: all have a verdict before the one that hangs.
    verdicts = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(verdicts) == 4 * RESPONSES
    for start in range(0, len(verdicts), RESPONSES):
        *others, last = verdicts[start : start + RESPONSES]
        assert last["reason"] == "timeout: no verdict within 10 s"
        missing = sorted(one["reason"] for one in others if one["is_correct"] is None)
        assert missing == ["crash: out of memory", "crash: the process ended with status 3"]


@pytest.mark.slow
def test_a_verifier_that_always_dies_costs_the_updates_and_not_the_run(
    cluster: None, small_config: Make, tmp_path: Path
) -> None:
    config = small_config(engine="transformers")
    always = with_faults(
        config, dict.fromkeys(range(RESPONSES), "exit"), tmp_path / "verdicts.jsonl"
    )
    with running(always) as algo:
        results = [algo.train()["env_runners"] for _ in range(2)]
    for figures in results:
        assert figures["missing_crash"] == RESPONSES
        assert figures["missing_reward_fraction"] == 1
        assert (figures["groups_accepted"], figures["groups_missing"]) == (0, 4)
        assert "accuracy" not in figures
