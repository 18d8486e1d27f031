"""Environments with one planted fault each, on top of one that has none."""

from __future__ import annotations

import itertools
import math
import threading
from typing import Any, ClassVar

import gymnasium

from rllib_dapo.envs import Problem, SingleStepTextEnv, TextSpace, Verdict

count = itertools.count()


class Sound(gymnasium.Env):
    observation_space, action_space = TextSpace(1000), TextSpace(200_000)

    def __init__(self, config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        pass

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.seed = int(self.np_random.integers(100)) if seed is None else seed
        return self.prompt(self.seed), {}

    def prompt(self, seed: int) -> Any:
        return f"Say {seed}."

    def step(self, action: str) -> Any:
        return "", self.reward(action), True, False, self.info(action)

    def reward(self, action: str) -> Any:
        return float(str(self.seed) in action)

    def info(self, action: str) -> dict[str, Any]:
        return {}


class IgnoresSeed(Sound):
    def prompt(self, seed: int) -> str:
        return "Say 5."


class DrawsAnew(Sound):
    def prompt(self, seed: int) -> str:
        return f"Say {next(count)}."


class RemembersResponses(Sound):
    said = ""

    def prompt(self, seed: int) -> str:
        return f"Say {seed}{self.said}."

    def reward(self, action: str) -> float:
        self.said = " again" if action == "something" else self.said
        return 0.0


class SharedByCopies(Sound):
    last: ClassVar[dict[int, Sound]] = {}

    def __init__(self, config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        self.number = len(self.last)
        self.last[self.number] = self

    def prompt(self, seed: int) -> str:
        return f"Say {seed} for number {self.number}."


class OfOneProcess(Sound):
    def prompt(self, seed: int) -> str:
        return f"Say {hash(str(seed)) % 1000}."


class ObservesNumbers(Sound):
    def prompt(self, seed: int) -> int:
        return seed


class StepObservesNone(Sound):
    def step(self, action: str) -> Any:
        return None, 0.0, True, False, {}


class NoText(Sound):
    def prompt(self, seed: int) -> str:
        return " "


class NoInfo(Sound):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


class SmallAlphabet(Sound):
    action_space = gymnasium.spaces.Text(200_000)


class Infinite(Sound):
    def reward(self, action: str) -> float:
        return math.inf if not action else 0.0


class RewardOfText(Sound):
    def reward(self, action: str) -> str:
        return "1.0"


class NoReason(Sound):
    def reward(self, action: str) -> float:
        return math.nan


class RaisesOnNull(Sound):
    def reward(self, action: str) -> float:
        if chr(0) in action:
            raise ValueError("null byte")
        return 0.0


class ScorerRaises(SingleStepTextEnv):
    def problem(self, seed: int) -> Problem:
        return Problem(prompt=f"Say {seed}.", answer=str(seed), problem_id=str(seed))

    def score(self, problem: Problem, response: str) -> Verdict:
        return Verdict(is_correct=int(response) == int(problem.answer))


class CorrectAsText(Sound):
    def info(self, action: str) -> dict[str, Any]:
        return {"is_correct": "yes"}


class NeverEnds(Sound):
    def step(self, action: str) -> Any:
        return "go on", 0.0, False, False, {}


class NeverReturns(Sound):
    def reward(self, action: str) -> float:
        if len(action) > 50_000:
            threading.Event().wait()
        return 0.0


class Slow(Sound):
    def prompt(self, seed: int) -> str:
        threading.Event().wait(0.004)
        return super().prompt(seed)


class FourValues(Sound):
    def step(self, action: str) -> Any:
        return "", 0.0, True, {}


class NoSeeding(Sound):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.seed = seed or 0
        return self.prompt(self.seed), {}


class FailsToStart(Sound):
    def __init__(self, config: dict[str, Any] | None = None, **kwargs: Any) -> None:
        raise RuntimeError("no licence")
