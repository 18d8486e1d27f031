"""Environments that misbehave under a stepper: what is missing has its reason; nothing else is."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import Any

import gymnasium as gym
import pytest

from rllib_dapo.envs import Problem, SingleStepTextEnv, TextSpace, Verdict
from rllib_dapo.envs.hosts.outcomes import StepOutcome
from rllib_dapo.rollout.env_stepper import EnvStepper
from rllib_dapo.rollout.make_env_stepper import make_env_stepper
from rllib_dapo.rollout.make_environment import make_environment
from rllib_dapo.rollout.pooled_env_stepper import PooledEnvStepper
from rllib_dapo.rollout.submitting_env_stepper import SubmittingEnvStepper

PATIENCE_S = 600  # against hanging only
MakeStepper = Callable[..., EnvStepper]


@pytest.fixture
def make() -> Iterator[MakeStepper]:
    made = []

    def make_stepper(env: Any, *, num_threads: int = 1, **env_config: Any) -> EnvStepper:
        made.append(
            make_env_stepper(lambda _: make_environment(env, env_config), num_threads=num_threads)
        )
        return made[-1]

    yield make_stepper
    for stepper in made:
        stepper.close()


def steps(stepper: EnvStepper, texts: dict[int, tuple[int, str]]) -> dict[int, StepOutcome]:
    """Begins a step of every episode, given as (seed, text), and waits for all of them."""
    begun = {key: stepper.begin_step(key, seed, text) for key, (seed, text) in texts.items()}
    _, late = wait([step.future for step in begun.values()], PATIENCE_S)
    assert not late
    return {key: step.result() for key, step in begun.items()}


class FaultyEnv(gym.Env):
    """Does what its settings and the texts say."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.observation_space = self.action_space = TextSpace(100)
        self.config = config

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        if seed == self.config.get("bad_seed"):
            return self.config["reset"]()
        return f"prompt {seed}", {}

    def step(self, action: str) -> Any:
        outcomes: dict[str, Callable[[], Any]] = {
            "raise": lambda: 1 / 0,
            "leave": lambda: exit(3),
            "four": lambda: ("", 1.0, True, {}),
            "info": lambda: ("", 1.0, True, False, None),
            "text": lambda: ("", "1", True, False, {}),
        }
        return outcomes.get(action, lambda: ("", 1.0, True, False, {"is_correct": True}))()


def leave() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("reset", "reason"),
    [
        (lambda: 1 / 0, "crash: the environment raised ZeroDivisionError: division by zero"),
        (leave, "crash: the environment raised SystemExit: 3"),
        (lambda: ("prompt", None), "crash: reset returned the info None: it must be a dict"),
        (lambda: (5, {}), "crash: the environment observes no prompt: "),
        (lambda: "prompt", "crash: reset must return the prompt and a dict (info), not 'prompt'"),
    ],
)
def test_a_reset_that_fails_costs_its_prompt_alone(
    make: MakeStepper, reset: Callable[[], Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    stepper = make(FaultyEnv, bad_seed=2, reset=reset)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            resets = stepper.prompts(range(4))
    assert [r.prompt for r in resets] == ["prompt 0", "prompt 1", None, "prompt 3"]
    assert resets[2].reason.startswith(reason)
    assert sum("(said once)" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise", "crash: the environment raised ZeroDivisionError: division by zero"),
        ("leave", "crash: the environment raised SystemExit: 3"),
        ("four", "crash: step must return observation, reward, terminated, truncated and info"),
        ("info", "crash: step returned the info None: it must be a dict"),
        ("text", "crash: the reward is '1': it must be a number"),
    ],
)
@pytest.mark.parametrize("num_threads", [1, 3])
def test_a_step_that_fails_costs_its_reward_alone(
    make: MakeStepper, num_threads: int, text: str, reason: str
) -> None:
    stepper = make(FaultyEnv, num_threads=num_threads)
    stepper.prompts([0])
    done = steps(stepper, {0: (0, "good"), 1: (0, text), 2: (0, "good")})
    assert math.isnan(done[1].reward)
    assert done[1].is_done
    assert done[1].reason.startswith(reason)
    assert [done[0].reward, done[2].reward] == [1.0, 1.0]


def test_environments_that_raise_when_closed_are_all_closed(make: MakeStepper) -> None:
    closed = []

    class BadEnd(FaultyEnv):
        def step(self, action: str) -> Any:
            return "on", 0.0, False, False, {}

        def close(self) -> None:
            closed.append(self)
            raise RuntimeError("cannot be closed")

    stepper = make(BadEnd)
    steps(stepper, {0: (0, "a"), 1: (0, "b")})
    stepper.close()
    assert len(closed) == 2


class Unseeded(gym.Env):
    """Its prompt, or its answer alone, is another one at every reset."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.observation_space = self.action_space = TextSpace(100)
        self.what, self.count = config["what"], 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        self.count += 1
        if self.what == "prompt":
            return f"prompt {self.count}", {}
        return "prompt", {"answer": self.count} if self.what == "answer" else {}

    def step(self, action: str) -> Any:
        return "", 1.0, True, False, {}


@pytest.mark.parametrize("what", ["prompt", "answer"])
def test_a_response_is_not_judged_by_another_problem_than_its_prompt(
    make: MakeStepper, what: str
) -> None:
    stepper = make(Unseeded, what=what)
    [reset] = stepper.prompts([7])
    outcome = steps(stepper, {0: (7, "text")})[0]
    assert math.isnan(outcome.reward)
    value = ("'prompt 1'", "'prompt 2'") if what == "prompt" else ("'1'", "'2'")
    told = f"not seeded: reset(seed=7) gave the {what} {value[0]}, and then {value[1]}"
    assert outcome.reason == told
    assert reset.prompt is not None


def test_a_hidden_state_behind_one_prompt_is_not_held_against_an_environment(
    make: MakeStepper,
) -> None:
    stepper = make(Unseeded, what="neither")
    stepper.prompts([7])
    assert steps(stepper, {0: (7, "text")})[0].reward == 1.0


class RoomEnv(SingleStepTextEnv):
    """Scores only when as many scores as the room holds are under way at once."""

    room = threading.Barrier(8, timeout=PATIENCE_S)
    scored_in: set[threading.Thread] = set()  # noqa: RUF012 (shared by all, on purpose)
    made: list[int] = []  # noqa: RUF012

    def problem(self, seed: int) -> Problem:
        self.made.append(seed)
        return Problem(prompt=f"{seed}+0=", answer=str(seed), problem_id=str(seed))

    def score(self, problem: Problem, response: str) -> Verdict:
        self.scored_in.add(threading.current_thread())
        if response == "together":
            self.room.wait()
        return Verdict(is_correct=True)


def test_as_many_scores_wait_at_a_time_as_there_are_threads(make: MakeStepper) -> None:
    stepper = make(RoomEnv, num_threads=8)
    assert isinstance(stepper, SubmittingEnvStepper)
    stepper.prompts([3])
    done = steps(stepper, dict.fromkeys(range(8), (3, "together")))
    assert [done[key].reward for key in range(8)] == [1.0] * 8


def test_a_score_never_runs_on_the_callers_thread_even_with_one(make: MakeStepper) -> None:
    RoomEnv.scored_in.clear()
    stepper = make(RoomEnv)
    stepper.prompts([3])
    assert steps(stepper, {0: (3, "alone"), 1: (3, "alone")})[1].reward == 1.0
    assert len(RoomEnv.scored_in) == 1
    assert threading.current_thread() not in RoomEnv.scored_in


def test_begin_step_does_not_wait_for_a_score(make: MakeStepper) -> None:
    go_on = threading.Event()

    class Waiting(RoomEnv):
        def score(self, problem: Problem, response: str) -> Verdict:
            return Verdict(is_correct=go_on.wait(PATIENCE_S))

    stepper = make(Waiting)
    stepper.prompts([3])
    step = stepper.begin_step(0, 3, "text")
    assert not step.future.done()  # only what comes next lets it end
    go_on.set()
    assert step.result().reward == 1.0


def test_a_problem_is_made_once_for_its_group(make: MakeStepper) -> None:
    stepper = make(RoomEnv)
    stepper.prompts([0])  # the first problem of all is compared with itself
    RoomEnv.made.clear()
    stepper.prompts([3, 4])
    steps(stepper, {key: (3 + key % 2, "alone") for key in range(8)})
    assert sorted(RoomEnv.made) == [3, 4]


class FaultyProblem(SingleStepTextEnv):
    def problem(self, seed: int) -> Any:
        if seed == 1:
            raise LookupError("no such row")
        if seed == 2:
            return "text"
        return Problem(prompt=f"{seed}+0=", answer="", problem_id="")

    def score(self, problem: Problem, response: str) -> Any:
        if response == "leave":
            raise SystemExit(3)
        return 1.0 if response == "number" else Verdict(is_correct=True)


def test_a_problem_that_fails_costs_its_prompt_alone(make: MakeStepper) -> None:
    stepper = make(FaultyProblem)
    resets = stepper.prompts(range(4))
    assert [r.prompt for r in resets] == ["0+0=", None, None, "3+0="]
    assert resets[1].reason == "crash: the environment raised LookupError: no such row"
    assert resets[2].reason == "crash: problem must return a Problem, not 'text'"

    done = steps(stepper, {0: (0, "leave"), 1: (0, "number"), 2: (0, "good")})
    assert done[0].reason == "crash: the environment raised SystemExit: 3"
    assert done[1].reason == "crash: score must return a Verdict, not float"
    assert done[2].reward == 1.0


def test_a_problem_that_changes_is_told_and_does_not_make_verdicts_wrong(
    make: MakeStepper, caplog: pytest.LogCaptureFixture
) -> None:
    class Changing(SingleStepTextEnv):
        count = 0

        def problem(self, seed: int) -> Problem:
            self.count += 1
            return Problem(prompt=f"{self.count}", answer=f"{self.count}", problem_id="")

        def score(self, problem: Problem, response: str) -> Verdict:
            return Verdict(is_correct=response == problem.answer)

    stepper = make(Changing)
    with caplog.at_level(logging.WARNING):
        resets = stepper.prompts([5, 6])
    assert any("not seeded: reset(seed=5) gave" in record.message for record in caplog.records)
    done = steps(stepper, {key: (r.seed, str(r.prompt)) for key, r in enumerate(resets)})
    assert [done[0].reward, done[1].reward] == [1.0, 1.0]


def hanging_env() -> type[gym.Env]:
    """An environment of three turns that hangs or dies where its seed or a text says so."""

    class HangingEnv(gym.Env):
        def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
            import time

            while seed == 13:
                time.sleep(1)
            self.said: list[str] = []
            return f"prompt {seed}", {}

        def step(self, action: str) -> Any:
            import os
            import time

            while action == "hang":
                time.sleep(1)
            if action == "die":
                os.kill(os.getpid(), 11)
            self.said.append(action)
            return " ".join(self.said), 1.0, len(self.said) == 3, False, {}

    return HangingEnv


@pytest.mark.slow
def test_in_processes_what_hangs_or_dies_is_missing_and_all_others_go_on(
    make: MakeStepper,
) -> None:
    stepper = make(hanging_env(), verify_in="process", verify_seconds=3, verify_processes=2)
    assert isinstance(stepper, PooledEnvStepper)
    resets = stepper.prompts([1, 13, 2])
    assert [r.prompt for r in resets] == ["prompt 1", None, "prompt 2"]
    assert resets[1].reason == "timeout: reset: no reply within 3 s"

    # More hang than there are processes; the rest have their turns before and after them.
    first = steps(stepper, {0: (1, "a"), 1: (1, "hang"), 2: (2, "die"), 3: (2, "hang")})
    assert first[0].observation == "a"
    assert first[1].reason == first[3].reason == "timeout: step: no reply within 3 s"
    assert first[2].reason == "crash: step: the process died of signal 11"
    for key in (1, 2, 3):
        assert math.isnan(first[key].reward)
        stepper.end_episode(key)

    assert steps(stepper, {0: (1, "b")})[0].observation == "a b"
    assert steps(stepper, {0: (1, "c")})[0].is_done
    stepper.end_episode(0)
    assert steps(stepper, {4: (2, "x"), 5: (1, "y")})[5].observation == "y"


def test_episodes_beyond_the_processes_wait_for_one_and_no_thread_waits_for_them(
    make: MakeStepper,
) -> None:
    stepper = make(hanging_env(), verify_in="process", verify_seconds=60, verify_processes=2)
    stepper.prompts([1])
    first = {key: stepper.begin_step(key, 1, "a") for key in range(4)}
    _, waiting = wait([first[key].future for key in (0, 1)], PATIENCE_S)
    assert not waiting

    for turn in ("b", "c"):  # both go on, though others wait for a place
        done = steps(stepper, {0: (1, turn), 1: (1, turn)})
    assert done[0].is_done
    _, waiting = wait([first[key].future for key in (2, 3)], PATIENCE_S)
    assert not waiting


def test_an_episode_that_is_given_up_while_it_waits_leaves_its_place_to_others(
    make: MakeStepper,
) -> None:
    stepper = make(hanging_env(), verify_in="process", verify_seconds=60, verify_processes=1)
    stepper.prompts([1])
    steps(stepper, {0: (1, "a")})
    stepper.begin_step(1, 1, "a")
    last = stepper.begin_step(2, 1, "a")
    stepper.end_episode(1)
    stepper.end_episode(0)
    _, waiting = wait([last.future], PATIENCE_S)
    assert not waiting
    assert last.result().observation == "a"
