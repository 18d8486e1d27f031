"""The shape of a single-step text environment: one prompt, one response, one verdict."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium

from rllib_dapo.envs.env_settings import check_choice, merge_settings
from rllib_dapo.envs.messages import (
    Conversation,
    Observation,
    as_conversation,
    as_observation,
    plain_text,
)
from rllib_dapo.envs.processes.parted_future import parted
from rllib_dapo.envs.scoring import SCORING_SETTINGS, ProcessScoring
from rllib_dapo.envs.spaces import TextSpace
from rllib_dapo.envs.verdict_outcome import reward_and_info
from rllib_dapo.envs.verify.sent_rule import Rule
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, VerdictKind, missing

__all__ = ["Problem", "SingleStepTextEnv", "Ticket", "Verdict"]

logger = logging.getLogger(__name__)

_NO_GROUP = missing(
    MissingReason.CRASH,
    "this environment compares the responses of a whole group, and a step has one alone",
)
_SEED_BOUND = 2**31  # what an unseeded reset draws from; any larger seed may be asked for by hand


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A task and its ground truth.

    Attributes:
        prompt: What the model reads, before any chat template: a text, which is one message of the
            user, or a conversation.
        answer: The ground truth, as text.
        problem_id: A name that is the same in every run, for logs and metrics of single problems.
        columns: What else is known of it, by name, for whoever scores: made of what JSON can hold.
            Where problems come from a file, all columns of the row.
    """

    prompt: str | Conversation
    answer: str
    problem_id: str
    columns: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def text(self) -> str:
        """The prompt as one text, for people to read."""
        return plain_text(self.prompt)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticket:
    """A response that is being scored, see `SingleStepTextEnv.submit`.

    Attributes:
        problem: The problem that it is a response to.
        outcome: The reward and the info, or the verdict that they will be made of.
    """

    problem: Problem
    outcome: tuple[float, dict[str, Any]] | Future[Verdict]


class SingleStepTextEnv(gymnasium.Env[Observation, str]):
    """An environment whose episode is one prompt (the observation) and one response (the action).

    A subclass writes `problem` and `score`, and names its settings with their defaults::

        class ReverseEnv(SingleStepTextEnv):
            default_settings = {"length": 5}

            def problem(self, seed):
                letters = random.Random(seed).choices("abc", k=self.settings["length"])
                word = "".join(letters)
                return Problem(prompt=f"Reverse {word}:", answer=word[::-1], problem_id=word)

            def score(self, problem, response):
                return Verdict(is_correct=response.strip() == problem.answer)

    The problem of a reset seed depends on nothing but the seed and the settings. That one rule
    gives groups (reset with one seed `G` times), epochs without repetition (consecutive seeds),
    exact resumption (save one integer) and the recovery of lost work (ask for the seed again).

    The reward is +1 for a correct and -1 for a wrong response (Eq. 7 of the DAPO paper), or what
    the verdict says. A verdict that is missing gives NaN, never a silent 0; the cause is in
    `info["missing_reason"]`. A `score` that raises gives a missing verdict too, because what it
    reads was written by a model and must not stop a run.

    A `score` that may hang, exit or take all memory belongs in a process that can be killed:
    `verify_in="process"` runs it on a copy of the environment in the `VerifierPool`, so it must
    depend on nothing but the settings, the problem and the response.

    `reset` returns an `info` with `problem_id` and `answer`. That of `step` has `prediction`,
    `answer`, `reward_components` and `reward_metrics` if the verdict has any, and `is_correct`,
    which is None if the verdict is missing, and absent if the environment only grades.

    A subclass that compares the responses to one prompt with each other sets `scores_groups` and
    writes `score_group` in place of `score`. An EnvRunner then scores a group once it is whole. A
    `step` has no verdict, for one response is no group.

    Settings that every environment has, with their defaults:
        verify_in: "auto", which scores in a process if `needs_process` says so; "process" or
            "here", whatever that says.
        verify_seconds: 5.0; a process that takes longer over a response is killed.
        verify_memory_mib: 1024; a process that takes more memory than that, beyond what it needed
            to start, is killed too.
        verify_processes: None; how many responses are scored at a time. By default one for each
            core, up to 4.
        render_mode: None; or "ansi".

    Args:
        config: Settings by name; what RLlib hands to an environment class.
        **kwargs: Settings by name; what `gymnasium.make` hands over. They win over `config`.

    Raises:
        ValueError: If a setting is unknown, or one of those of every environment is refused.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 (Gymnasium's own annotation)
    default_settings: ClassVar[Mapping[str, Any]] = {}
    max_prompt_characters: ClassVar[int] = 1_000_000
    max_response_characters: ClassVar[int] = 1_000_000
    needs_process: bool = False
    scores_groups: bool = False

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if config is not None and not isinstance(config, Mapping):
            raise ValueError(f"config={config!r}: must be a mapping from setting names to values")

        # What every environment has is taken out again: `settings` holds the subclass's own.
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
        """Returns the problem of a reset seed.

        A pure function of `seed` and the settings, whatever was asked for before.
        """
        raise NotImplementedError

    def score(self, problem: Problem, response: str) -> Verdict:
        """Judges a response.

        It is untrusted text: never evaluate it, and bound how much of it you look at.
        """
        raise NotImplementedError

    def score_group(self, problem: Problem, responses: Sequence[str]) -> Sequence[Verdict]:
        """Judges all responses to a problem, if `scores_groups`; a verdict for each."""
        raise NotImplementedError

    def scoring_rule(self) -> Rule:
        """Returns what a process calls in place of `score`: by default a copy's own `score`.

        If `scores_groups`, in place of `score_group`: it then gets all responses as one text of
        JSON, and returns a list.
        """
        return self._score_group_copy if self.scores_groups else self._score_copy

    def scoring_arguments(self, problem: Problem, response: str) -> tuple[str | float, ...]:
        """Returns what the scoring rule is called with."""
        prompt = json.dumps(as_observation(problem.prompt))
        columns = json.dumps(dict(problem.columns), ensure_ascii=False)
        return prompt, problem.answer, problem.problem_id, columns, response

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: Which problem it is about. None: a seed is drawn from the environment's own
                generator.
            options: Not used.

        Returns:
            The prompt (a text, or a list of messages), and `{"problem_id", "answer"}`.
        """
        super().reset(seed=seed)
        self.prepare_scoring()
        chosen = int(self.np_random.integers(_SEED_BOUND)) if seed is None else seed
        self._problem = problem = self.problem(chosen)
        self._response = None
        prompt = as_observation(problem.prompt)
        return prompt, {"problem_id": problem.problem_id, "answer": problem.answer}

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Scores the response and ends the episode.

        Returns:
            An empty observation, the reward (NaN if missing), terminated (True), truncated (False),
            and the info.

        Raises:
            gymnasium.error.ResetNeeded: If the episode has not begun or is already over.
            gymnasium.error.InvalidAction: If the action is not a text.
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
        """Whether `submit` and `collect` do what `reset` and `step` do.

        They do not if a subclass changes either of the latter.
        """
        cls = type(self)
        return cls.reset is SingleStepTextEnv.reset and cls.step is SingleStepTextEnv.step

    @property
    def scores_apart(self) -> bool:
        """Whether `submit` leaves the scoring to processes, and does not wait for it."""
        return self._scores_apart

    def prepare_scoring(self) -> None:
        """Gets ready for scoring in processes, if that is where responses are scored.

        Raises:
            ValueError: If the rule cannot be sent to them. That may stop a run: no model has
                written anything yet.
        """
        if self._scores_apart:
            self._processes.prepare(self.scoring_rule)

    def submit(self, seed: int, response: str) -> Ticket:
        """Begins to score a response to the problem of a seed, see `submit_to`."""
        return self.submit_to(self.problem(seed), response)

    def submit_to(self, problem: Problem, response: str) -> Ticket:
        """Begins to score a response to a problem.

        The episode is not touched. If responses are scored in processes (`scores_apart`), this does
        not wait, and those submitted together are scored side by side. Otherwise `score` is called
        here.

        Returns:
            What `collect` takes.
        """
        return self._begin(problem, response)

    def submit_group(self, problem: Problem, responses: Sequence[str]) -> list[Ticket]:
        """Begins to score all responses to a problem, see `submit_to`; only if `scores_groups`.

        Returns:
            What `collect` takes, for each response.
        """
        if not self._scores_apart:
            outcomes = self._score_here(problem, responses, self._score_whole_group)
            return [Ticket(problem=problem, outcome=outcome) for outcome in outcomes]

        self._processes.prepare(self.scoring_rule)
        arguments = self.scoring_arguments(problem, json.dumps(responses, ensure_ascii=False))
        verdicts = self._processes.submit_group(*arguments, size=len(responses))
        return [
            Ticket(problem=problem, outcome=verdict) for verdict in parted(verdicts, len(responses))
        ]

    def collect(self, ticket: Ticket) -> tuple[float, dict[str, Any]]:
        """Waits for a verdict.

        Returns:
            The reward (NaN if missing) and the info, as `step` returns them.
        """
        outcome = ticket.outcome
        if isinstance(outcome, Future):
            verdict = outcome.result()
            if verdict.kind is VerdictKind.MISSING:
                self._warn_once(ticket.problem, verdict.reason)
            outcome = reward_and_info(verdict)

        reward, info = outcome
        return reward, {**info, "answer": ticket.problem.answer}

    def close(self) -> None:
        """Gives back the share in the verifier pool."""
        self._processes.close()
        super().close()  # type: ignore[no-untyped-call]  # Gymnasium's

    def render(self) -> str:  # type: ignore[override]  # Gymnasium annotates it with a free type variable
        """Returns the prompt, and below it the response if there is one."""
        texts = (self._problem.text if self._problem else None, self._response)
        return "\n".join(text for text in texts if text is not None)

    @property
    def _scores_apart(self) -> bool:
        place = self._processes.place
        return self.needs_process if place == "auto" else place == "process"

    def _begin(self, problem: Problem, response: str) -> Ticket:
        if self.scores_groups:
            return Ticket(problem=problem, outcome=reward_and_info(_NO_GROUP))
        if not self._scores_apart:
            [outcome] = self._score_here(
                problem, [response], lambda problem, _: [self.score(problem, response)]
            )
            return Ticket(problem=problem, outcome=outcome)

        self._processes.prepare(self.scoring_rule)
        verdict = self._processes.submit(*self.scoring_arguments(problem, response))
        return Ticket(problem=problem, outcome=verdict)

    def _score_here(
        self,
        problem: Problem,
        responses: Sequence[str],
        score: Callable[[Problem, Sequence[str]], Sequence[Verdict]],
    ) -> list[tuple[float, dict[str, Any]]]:
        try:
            return [reward_and_info(verdict) for verdict in score(problem, responses)]
        except Exception as error:
            # Logged once, with its traceback: a scorer with a bug fails on every response.
            if not self._scoring_failed:
                logger.warning(
                    "%s.score failed on problem %s",
                    type(self).__name__,
                    problem.problem_id,
                    exc_info=True,
                )
            self._scoring_failed = True
            told = f"the scorer raised {type(error).__name__}: {error}"
            return [reward_and_info(missing(MissingReason.CRASH, told))] * len(responses)

    def _score_whole_group(self, problem: Problem, responses: Sequence[str]) -> list[Verdict]:
        verdicts = list(self.score_group(problem, responses))
        if len(verdicts) != len(responses):
            raise ValueError(f"{len(verdicts)} verdicts for {len(responses)} responses")
        return verdicts

    def _warn_once(self, problem: Problem, reason: str) -> None:
        if not self._scoring_failed:
            name = type(self).__name__
            logger.warning(
                "%s: no verdict on problem %s: %s (said once)", name, problem.problem_id, reason
            )
        self._scoring_failed = True

    def _score_copy(
        self, prompt: str, answer: str, problem_id: str, columns: str, response: str
    ) -> Verdict:
        """Runs in a process of the pool, where prompt and columns arrive as JSON."""
        return self.score(_read_problem(prompt, answer, problem_id, columns), response)

    def _score_group_copy(
        self, prompt: str, answer: str, problem_id: str, columns: str, responses: str
    ) -> list[Verdict]:
        """Runs in a process of the pool, where responses arrive as JSON too."""
        problem = _read_problem(prompt, answer, problem_id, columns)
        return self._score_whole_group(problem, json.loads(responses))


def _read_problem(prompt: str, answer: str, problem_id: str, columns: str) -> Problem:
    read = json.loads(prompt)
    return Problem(
        prompt=read if isinstance(read, str) else as_conversation(read),
        answer=answer,
        problem_id=problem_id,
        columns=json.loads(columns),
    )
