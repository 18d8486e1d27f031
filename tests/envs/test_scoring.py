"""Environments whose responses are scored in processes of the pool."""

import copy
import json
import math
import pickle
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium
import psutil
import pytest

from rllib_dapo.envs import Problem, RuleScoredEnv, SingleStepTextEnv, Verdict
from rllib_dapo.envs.arithmetic import ArithmeticEnv
from rllib_dapo.envs.math import MathEnv


def reverse_env() -> type[SingleStepTextEnv]:
    """Returns a class that is sent whole, like one from a notebook.

    No process can import this file.
    """

    class ReverseEnv(SingleStepTextEnv):
        default_settings = {"length": 5}  # noqa: RUF012

        def problem(self, seed: int) -> Problem:
            word = "".join(random.Random(seed).choices("abcdefgh", k=self.settings["length"]))
            return Problem(prompt=f"Reverse {word}:", answer=word[::-1], problem_id=word)

        def score(self, problem: Problem, response: str) -> Verdict:
            import os

            if response == "hang":
                while True:
                    pass
            if response == "exit":
                os._exit(1)
            assert response != "raise"
            parts = {"length": float(len(response)), "process": float(os.getpid())}
            return Verdict(
                is_correct=response == problem.answer, prediction=response, components=parts
            )

    return ReverseEnv


@pytest.fixture
def env() -> Iterator[SingleStepTextEnv]:
    env = reverse_env()(
        {"verify_in": "process", "verify_seconds": 3, "verify_processes": 2, "length": 3}
    )
    yield env
    env.close()


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children()}


def test_scoring_in_a_process_says_what_scoring_here_says(env: SingleStepTextEnv) -> None:
    here = reverse_env()(length=3)
    for seed in range(5):
        for chosen in (env, here):
            chosen.reset(seed=seed)
        for one in (env.problem(seed).answer, "wrong"):
            _, reward, *ends, info = env.step(one)
            _, reward_here, *ends_here, info_here = here.step(one)
            assert (reward, ends) == (reward_here, ends_here)

            processes = {
                parts.pop("process")
                for parts in (info["reward_components"], info_here["reward_components"])
            }
            assert len(processes) == 2
            assert info == info_here

            env.reset(seed=seed)
            here.reset(seed=seed)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("hang", "timeout: no verdict within 3 s"),
        ("exit", "crash: the process ended with status 1"),
        ("raise", "crash: the scorer raised AssertionError: "),
    ],
)
def test_a_verdict_that_is_missing_is_not_a_number_says_why_and_is_logged_once(
    env: SingleStepTextEnv, caplog: pytest.LogCaptureFixture, response: str, reason: str
) -> None:
    for _ in range(2):
        env.reset(seed=1)
        _, reward, terminated, _, info = env.step(response)
        assert math.isnan(reward)
        assert terminated
        assert info["is_correct"] is None
        assert info["missing_reason"].startswith(reason.strip())
    assert len(caplog.records) == 1
    assert "ReverseEnv: no verdict on problem" in caplog.text


def test_responses_submitted_together_are_scored_side_by_side(env: SingleStepTextEnv) -> None:
    prompt, _ = env.reset(seed=0)
    responses = ["hang", env.problem(7).answer, "wrong", "exit"]
    tickets = [env.submit(7, response) for response in responses]
    rewards = [env.collect(ticket)[0] for ticket in tickets]
    assert [str(reward) for reward in rewards] == ["nan", "1.0", "-1.0", "nan"]
    assert env.step(env.problem(0).answer)[1] == 1.0  # the episode has gone on undisturbed
    assert prompt.startswith("Reverse")


@pytest.mark.parametrize("place", ["here", "process"])
def test_submitting_and_collecting_give_what_a_step_gives(place: str) -> None:
    env = ArithmeticEnv(verify_in=place)
    for seed in range(3):
        for response in (env.problem(seed).answer, "0", "no number"):
            env.reset(seed=seed)
            _, reward, _, _, info = env.step(response)
            assert env.collect(env.submit(seed, response)) == (reward, info)
    env.close()


def test_environments_share_processes_and_the_last_one_ends_them(
    eventually: Callable[[Callable[[], object]], None],
) -> None:
    before = children()
    one, two = (
        ArithmeticEnv(verify_in="process", verify_processes=1, seed=seed) for seed in (0, 1)
    )
    for env in (one, two):
        env.reset(seed=0)
        env.step("1")

    assert len(children() - before) == 1
    one.close()
    assert len(children() - before) == 1
    two.close()
    eventually(lambda: not children() - before)

    # Asking again takes a new share.
    two.reset(seed=0)
    assert two.step(two.problem(0).answer)[1] == 1.0
    two.close()
    eventually(lambda: not children() - before)


def test_an_environment_that_takes_no_process_makes_none() -> None:
    before = children()
    env = ArithmeticEnv()
    env.reset(seed=0)
    env.step("1")
    env.collect(env.submit(0, "1"))
    assert children() == before


@pytest.fixture
def halves(tmp_path: Path) -> str:
    path = tmp_path / "halves.jsonl"
    rows = [{"question": f"Half of {i}?", "answer": rf"\frac{{{i}}}{{2}}"} for i in range(1, 50, 2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("spelling", ["math_verify", "math-verify"])
def test_mathematics_is_compared_in_a_process_without_being_asked_for(
    halves: str, spelling: str, eventually: Callable[[Callable[[], object]], None]
) -> None:
    before = children()
    env = MathEnv({"path": halves, "answer_rule": spelling, "verify_seconds": 120})
    assert len(env.problems) == 25
    assert children() == before  # selecting the problems has not compared any

    tickets = []
    for seed in range(25):
        numerator = int(env.problem(seed).answer.split("{")[1].rstrip("}"))
        tickets += [
            env.submit(seed, f"Answer: {numerator / 2}"),
            env.submit(seed, rf"\boxed{{{numerator}}}"),
        ]
    outcomes = [env.collect(ticket) for ticket in tickets]
    assert [reward for reward, _ in outcomes] == [1.0, -1.0] * 25

    eventually(lambda: len(children() - before) in (1, 2, 3, 4))
    env.close()
    eventually(lambda: not children() - before)


def test_mathematics_can_be_compared_here_on_demand(halves: str) -> None:
    before = children()
    env = MathEnv({"path": halves, "answer_rule": "math_verify", "verify_in": "here"})
    env.reset(seed=0)
    assert env.step(f"Answer: {env.problem(0).answer}")[1] == 1.0
    assert children() == before


@pytest.mark.parametrize("place", ["here", "process"])
def test_a_score_of_ones_own_is_what_counts_wherever_scoring_runs(halves: str, place: str) -> None:
    class LenientEnv(MathEnv):
        def score(self, problem: Problem, response: str) -> Verdict:
            exact = super().score(problem, response)
            return exact if exact.is_correct else Verdict(is_correct=None, reward=0.5)

    env = LenientEnv({"path": halves, "verify_in": place})
    try:
        _, info = env.reset(seed=0)
        assert env.step(f"Answer: {info['answer']}")[1] == 1.0
        env.reset(seed=0)
        assert env.step("no idea")[1] == 0.5
    finally:
        env.close()


def test_a_tolerance_is_the_numeric_rules_alone(halves: str) -> None:
    for place in ("here", "process"):
        rewards = []
        for settings in ({"tolerance": 0.3}, {}):
            env = MathEnv(
                {"path": halves, "answer_rule": "numeric", "verify_in": place, **settings}
            )
            truth = int(env.problem(0).answer.split("{")[1].rstrip("}")) / 2
            rewards.append(env.collect(env.submit(0, f"Answer: {truth + 0.1}"))[0])
            env.close()
        assert rewards == [1.0, -1.0]


def test_an_environment_whose_step_was_rewritten_is_asked_by_its_step_alone() -> None:
    class Shifted(reverse_env()):  # type: ignore[misc]
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            observation, reward, *rest = super().step(action)
            return observation, reward + 1, *rest

    class Plain(reverse_env()):  # type: ignore[misc]
        def score(self, problem: Problem, response: str) -> Verdict:
            return Verdict(is_correct=True)

    assert not Shifted().takes_submissions
    assert Plain().takes_submissions


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda env: cloudpickle.loads(cloudpickle.dumps(env))]
)
def test_a_copy_of_an_environment_scores_on_its_own(env: SingleStepTextEnv, copied: Any) -> None:
    env.reset(seed=2)
    twin = copied(env)
    assert twin.step(env.problem(2).answer)[1] == 1.0
    twin.close()
    assert env.step(env.problem(2).answer)[1] == 1.0
    assert pickle.loads(pickle.dumps(ArithmeticEnv(verify_in="process"))).settings["digits"] == 2


def test_what_cannot_be_sent_to_a_process_is_said_before_any_response() -> None:
    class Locked(reverse_env()):  # type: ignore[misc]
        def __init__(self, config: Any = None, **kwargs: Any) -> None:
            super().__init__(config, **kwargs)
            self.lock = threading.Lock()

    with pytest.raises(
        ValueError, match=r"^verify_in='process': .* cannot be sent to another process: .*'here'$"
    ):
        Locked(verify_in="process").reset(seed=0)
    Locked().reset(seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"verify_in": "proces"},
            "^verify_in='proces': must be one of auto, process, here; did you mean 'process'",
        ),
        ({"verify_seconds": 0}, "^verify_seconds=0: must be a number above 0"),
        ({"verify_seconds": "5"}, "^verify_seconds='5': must be a number above 0"),
        ({"verify_memory_mib": 1.5}, "^verify_memory_mib=1.5: must be a whole number, at least 16"),
        ({"verify_processes": 0}, "^verify_processes=0: must be from 1 to 1024"),
        (
            {"verify_process": 1},
            "^ReverseEnv: unknown setting 'verify_process' .*; did you mean 'verify_processes'",
        ),
    ],
)
def test_settings_out_of_bounds_are_refused_in_one_clear_line(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        reverse_env()(settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, "0.1", None, True])
def test_a_tolerance_that_is_none_is_refused(halves: str, tolerance: Any) -> None:
    with pytest.raises(ValueError, match=r"^tolerance=.*: must be a number, at least 0"):
        MathEnv({"path": halves, "answer_rule": "numeric", "tolerance": tolerance})


def test_both_environments_of_ours_are_scored_by_a_rule() -> None:
    assert issubclass(ArithmeticEnv, RuleScoredEnv)
    assert issubclass(MathEnv, RuleScoredEnv)
    assert (
        gymnasium.make("rllib_dapo/Arithmetic-v0", answer_rule="numeric").unwrapped.rule
        == "numeric"
    )
