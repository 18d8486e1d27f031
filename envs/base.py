"""The shape of a single-step text environment: one prompt, one response, one verdict."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium

from rllib_dapo.envs.settings import check_choice, is_finite_number, merge_settings
from rllib_dapo.envs.spaces import TextSpace

logger = logging.getLogger(__name__)

_SEED_BOUND = 2**31  # what an unseeded reset draws from; any larger seed may be asked for by hand


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A task and its ground truth.

    Attributes:
        prompt: What the model reads, before any chat template.
        answer: The ground truth, as text.
        problem_id: A name that is the same in every run, for logs and per-problem metrics.
    """

    prompt: str
    answer: str
    problem_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What a scorer thinks of one response.

    Attributes:
        is_correct: Whether the response solves the problem. None: the scorer could not tell, or, if a reward is given,
            the environment grades and knows no correct and wrong.
        reward: Overrides the reward +1 (correct) or -1 (wrong) of the DAPO paper's Eq. 7.
        prediction: The answer found in the response, in a form in which equal answers are equal texts.
        reason: Why there is no verdict, or what was wrong; one line.
    """

    is_correct: bool | None
    reward: float | None = None
    prediction: str = ""
    reason: str = ""


class SingleStepTextEnv(gymnasium.Env[str, str]):
    """An environment whose episode is one prompt (the observation) and one response (the action).

    A subclass writes ``problem`` and ``score``, and names its settings with their defaults::

        class ReverseEnv(SingleStepTextEnv):
            default_settings = {"length": 5}

            def problem(self, seed):
                letters = random.Random(seed).choices("abc", k=self.settings["length"])
                word = "".join(letters)
                return Problem(prompt=f"Reverse {word}:", answer=word[::-1], problem_id=word)

            def score(self, problem, response):
                return Verdict(is_correct=response.strip() == problem.answer)

    The reward is +1 for a correct and -1 for a wrong response (Eq. 7 of the DAPO paper), or what the verdict says. A
    verdict that is missing gives NaN, never a silent 0: the cause stands in ``info["missing_reason"]``. A ``score``
    that raises gives a missing verdict too, because what it reads was written by a model and must not stop a run.

    ``reset`` returns ``info`` with ``problem_id`` and ``answer``; ``step`` with ``prediction``, ``answer`` and
    ``is_correct``, which is None where the verdict is missing and absent where the environment only grades.

    Args:
        config: Settings by name; what RLlib hands to an environment class.
        **kwargs: Settings by name; what ``gymnasium.make`` hands over. They win over ``config``.

    Raises:
        ValueError: If a setting is unknown.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 (Gymnasium's own annotation)
    default_settings: ClassVar[Mapping[str, Any]] = {}
    max_prompt_characters: ClassVar[int] = 1_000_000
    max_response_characters: ClassVar[int] = 1_000_000

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if config is not None and not isinstance(config, Mapping):
            raise ValueError(f"config={config!r}: must be a mapping from setting names to values")
        defaults = {**self.default_settings, "render_mode": None}
        self.settings = merge_settings(type(self).__name__, defaults, {**(config or {}), **kwargs})
        self.render_mode = self.settings.pop("render_mode")
        if self.render_mode is not None:
            check_choice("render_mode", self.render_mode, self.metadata["render_modes"])
        self.observation_space = TextSpace(self.max_prompt_characters)
        self.action_space = TextSpace(self.max_response_characters)
        self._problem: Problem | None = None
        self._response: str | None = None
        self._scoring_failed = False

    def problem(self, seed: int) -> Problem:
        """Returns the problem of a reset seed: a pure function of ``seed`` and the settings, whatever came before."""
        raise NotImplementedError

    def score(self, problem: Problem, response: str) -> Verdict:
        """Judges a response. It is untrusted text: never evaluate it, and bound how much of it you look at."""
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Starts an episode with the problem of ``seed``, or of a seed drawn from the environment's own generator.

        Returns:
            The prompt, and ``{"problem_id", "answer"}``.
        """
        super().reset(seed=seed)
        self._problem = self.problem(int(self.np_random.integers(_SEED_BOUND)) if seed is None else seed)
        self._response = None
        return self._problem.prompt, {"problem_id": self._problem.problem_id, "answer": self._problem.answer}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Scores the response and ends the episode.

        Returns:
            An empty observation, the reward (NaN if missing), terminated (True), truncated (False), and the info.

        Raises:
            gymnasium.error.ResetNeeded: If the episode has not begun or is already over.
            gymnasium.error.InvalidAction: If the action is no text.
        """
        if self._problem is None or self._response is not None:
            raise gymnasium.error.ResetNeeded("an episode is one response: call reset() before each step()")
        if not isinstance(action, str):
            raise gymnasium.error.InvalidAction(f"the action must be a str, not {type(action).__name__}")
        self._response = action
        reward, info = self._judge(self._problem, action)
        return "", reward, True, False, {**info, "answer": self._problem.answer}

    def render(self) -> str:  # type: ignore[override]  # Gymnasium annotates it with a free type variable
        """Returns the prompt, and below it the response if there is one."""
        texts = (self._problem.prompt if self._problem else None, self._response)
        return "\n".join(text for text in texts if text is not None)

    def _judge(self, problem: Problem, response: str) -> tuple[float, dict[str, Any]]:
        try:
            return judge(self.score(problem, response))
        except Exception as error:
            # Once with its traceback: a scorer with a bug fails on every response.
            if not self._scoring_failed:
                logger.warning("%s.score failed on problem %s", type(self).__name__, problem.problem_id, exc_info=True)
            self._scoring_failed = True
            return _missing("", f"the scorer raised {type(error).__name__}: {error}")


def judge(verdict: Verdict) -> tuple[float, dict[str, Any]]:
    """Turns a verdict into a reward and the part of ``info`` that tells of it.

    Returns:
        The reward (NaN if there is none), and ``is_correct``, ``prediction`` and, where missing, ``missing_reason``.
    """
    if not isinstance(verdict, Verdict):
        return _missing("", f"score must return a Verdict, not {type(verdict).__name__}")
    if verdict.reward is not None and not is_finite_number(verdict.reward):
        return _missing(verdict.prediction, f"the scorer gave the reward {verdict.reward!r}")
    if verdict.is_correct is None:
        if verdict.reward is None:
            return _missing(verdict.prediction, verdict.reason or "the scorer gave no verdict")
        return float(verdict.reward), {"prediction": verdict.prediction}
    is_correct = bool(verdict.is_correct)
    reward = (1.0 if is_correct else -1.0) if verdict.reward is None else float(verdict.reward)
    return reward, {"is_correct": is_correct, "prediction": verdict.prediction}


def _missing(prediction: str, reason: str) -> tuple[float, dict[str, Any]]:
    return math.nan, {"is_correct": None, "prediction": prediction, "missing_reason": reason}
