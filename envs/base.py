"""The shape of a single-step text environment: one prompt, one response, one verdict."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import gymnasium

from rllib_dapo.envs.env_settings import check_choice, is_finite_number, merge_settings
from rllib_dapo.envs.scoring import SCORING_SETTINGS, ProcessScoring
from rllib_dapo.envs.spaces import TextSpace
from rllib_dapo.envs.verify.calls import Rule
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, VerdictKind, missing

__all__ = ["Problem", "SingleStepTextEnv", "Ticket", "Verdict", "judge"]

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
class Ticket:
    """A response that is being scored; see `SingleStepTextEnv.submit`."""

    problem: Problem
    outcome: tuple[float, dict[str, Any]] | Future[Verdict]


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

    The reward is +1 for a correct and -1 for a wrong response (Eq. 7 of the DAPO paper), or what
    the verdict says. A verdict that is missing gives NaN, never a silent 0: the cause stands in
    ``info["missing_reason"]``. A ``score`` that raises gives a missing verdict too, because what it
    reads was written by a model and must not stop a run.

    One that may hang, exit or take all memory belongs into a process that can be killed:
    ``verify_in="process"`` runs ``score`` on a copy of the environment in the `VerifierPool`, so it
    must hang on nothing but the settings, the problem and the response.

    ``reset`` returns ``info`` with ``problem_id`` and ``answer``; ``step`` with ``prediction``,
    ``answer``, ``reward_components`` where the verdict has some, and ``is_correct``, which is None
    where the verdict is missing and absent where the environment only grades.

    Settings that every environment has, with their defaults:
        verify_in: "auto": in a process where ``needs_process`` says so; "process" or "here"
            whatever it says.
        verify_seconds: 5.0; a process that takes longer for a response is killed.
        verify_memory_mib: 1024; so is one that takes more memory than that beyond what it needed to
            start.
        verify_processes: None; how many responses are scored at a time; by default one for each
            core, up to 4.
        render_mode: None; or "ansi".

    Args:
        config: Settings by name; what RLlib hands to an environment class.
        **kwargs: Settings by name; what ``gymnasium.make`` hands over. They win over ``config``.

    Raises:
        ValueError: If a setting is unknown, or one of those of every environment is refused.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 (Gymnasium's own annotation)
    default_settings: ClassVar[Mapping[str, Any]] = {}
    max_prompt_characters: ClassVar[int] = 1_000_000
    max_response_characters: ClassVar[int] = 1_000_000
    needs_process: bool = False

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if config is not None and not isinstance(config, Mapping):
            raise ValueError(f"config={config!r}: must be a mapping from setting names to values")
        defaults = {**self.default_settings, "render_mode": None, **SCORING_SETTINGS}
        self.settings = merge_settings(type(self).__name__, defaults, {**(config or {}), **kwargs})
        self._processes = ProcessScoring(
            {name: self.settings.pop(name) for name in SCORING_SETTINGS}
        )
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

    def scoring_rule(self) -> Rule:
        """What a process calls in place of ``score``: by default ``score`` itself, of a copy of this environment."""
        return self._score_copy

    def scoring_arguments(self, problem: Problem, response: str) -> tuple[str | float, ...]:
        """What it is called with."""
        return problem.prompt, problem.answer, problem.problem_id, response

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Starts an episode with the problem of ``seed``, or of a seed drawn from the environment's own generator.

        Returns:
            The prompt, and ``{"problem_id", "answer"}``.
        """
        super().reset(seed=seed)
        if self._scores_apart:
            self._processes.prepare(
                self.scoring_rule
            )  # here it may raise: no model has written anything yet
        self._problem = self.problem(
            int(self.np_random.integers(_SEED_BOUND)) if seed is None else seed
        )
        self._response = None
        return self._problem.prompt, {
            "problem_id": self._problem.problem_id,
            "answer": self._problem.answer,
        }

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Scores the response and ends the episode.

        Returns:
            An empty observation, the reward (NaN if missing), terminated (True), truncated (False),
            and the info.

        Raises:
            gymnasium.error.ResetNeeded: If the episode has not begun or is already over.
            gymnasium.error.InvalidAction: If the action is no text.
        """
        if self._problem is None or self._response is not None:
            raise gymnasium.error.ResetNeeded(
                "an episode is one response: call reset() before each step()"
            )
        if not isinstance(action, str):
            raise gymnasium.error.InvalidAction(
                f"the action must be a str, not {type(action).__name__}"
            )
        self._response = action
        reward, info = self.collect(self._begin(self._problem, action))
        return "", reward, True, False, info

    @property
    def takes_submissions(self) -> bool:
        """Whether ``submit`` and ``collect`` do what ``reset`` and ``step`` do: not where a subclass changes these."""
        cls = type(self)
        return cls.reset is SingleStepTextEnv.reset and cls.step is SingleStepTextEnv.step

    def submit(self, seed: int, response: str) -> Ticket:
        """Begins to score a response to the problem of a seed, and does not wait. The episode goes on untouched.

        Where responses are scored in processes, those submitted together are scored side by side.

        Returns:
            What ``collect`` asks for.
        """
        return self._begin(self.problem(seed), response)

    def collect(self, ticket: Ticket) -> tuple[float, dict[str, Any]]:
        """Waits for a verdict.

        Returns:
            The reward (NaN if missing) and the info, as ``step`` returns them.
        """
        outcome = ticket.outcome
        if isinstance(outcome, Future):
            verdict = outcome.result()
            if verdict.kind is VerdictKind.MISSING and not self._scoring_failed:
                name, problem = type(self).__name__, ticket.problem.problem_id
                logger.warning(
                    "%s: no verdict on problem %s: %s (said once)", name, problem, verdict.reason
                )
                self._scoring_failed = True
            outcome = judge(verdict)
        reward, info = outcome
        return reward, {**info, "answer": ticket.problem.answer}

    def close(self) -> None:
        """Gives the share in the verifier pool back."""
        self._processes.close()
        super().close()  # type: ignore[no-untyped-call]  # Gymnasium's

    def render(self) -> str:  # type: ignore[override]  # Gymnasium annotates it with a free type variable
        """Returns the prompt, and below it the response if there is one."""
        texts = (self._problem.prompt if self._problem else None, self._response)
        return "\n".join(text for text in texts if text is not None)

    @property
    def _scores_apart(self) -> bool:
        place = self._processes.place
        return self.needs_process if place == "auto" else place == "process"

    def _begin(self, problem: Problem, response: str) -> Ticket:
        if not self._scores_apart:
            return Ticket(problem=problem, outcome=self._score_here(problem, response))
        self._processes.prepare(self.scoring_rule)
        verdict = self._processes.submit(*self.scoring_arguments(problem, response))
        return Ticket(problem=problem, outcome=verdict)

    def _score_here(self, problem: Problem, response: str) -> tuple[float, dict[str, Any]]:
        try:
            return judge(self.score(problem, response))
        except Exception as error:
            # Once with its traceback: a scorer with a bug fails on every response.
            if not self._scoring_failed:
                logger.warning(
                    "%s.score failed on problem %s",
                    type(self).__name__,
                    problem.problem_id,
                    exc_info=True,
                )
            self._scoring_failed = True
            return judge(
                missing(MissingReason.CRASH, f"the scorer raised {type(error).__name__}: {error}")
            )

    def _score_copy(self, prompt: str, answer: str, problem_id: str, response: str) -> Verdict:
        """Runs in a process of the pool."""
        return self.score(Problem(prompt=prompt, answer=answer, problem_id=problem_id), response)


def judge(verdict: Verdict) -> tuple[float, dict[str, Any]]:
    """Turns a verdict into a reward and the part of ``info`` that tells of it.

    Returns:
        The reward (NaN if there is none), and ``prediction``, ``is_correct`` unless it is a mere
        grade, ``missing_reason`` where missing, and ``reward_components`` if there are any.
    """
    if not isinstance(verdict, Verdict):
        verdict = missing(
            MissingReason.CRASH, f"score must return a Verdict, not {type(verdict).__name__}"
        )
    if verdict.reward is not None and not is_finite_number(verdict.reward):
        reason = f"the scorer gave the reward {verdict.reward!r}"
        verdict = replace(
            verdict, is_correct=None, reward=None, reason=f"{MissingReason.CRASH}: {reason}"
        )
    info: dict[str, Any] = {"prediction": verdict.prediction}
    if verdict.components:
        info["reward_components"] = dict(verdict.components)
    if verdict.kind is VerdictKind.MISSING:
        return math.nan, info | {
            "is_correct": None,
            "missing_reason": verdict.reason or "the scorer gave no verdict",
        }
    if verdict.is_correct is not None:
        info["is_correct"] = bool(verdict.is_correct)
    reward = (1.0 if verdict.is_correct else -1.0) if verdict.reward is None else verdict.reward
    return float(reward), info
