"""One environment of one step for all episodes, which scores many responses side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import gymnasium as gym

from rllib_dapo.envs import Problem, SingleStepTextEnv
from rllib_dapo.envs.base import Ticket
from rllib_dapo.envs.hosts.outcomes import (
    BadOutcome,
    ResetOutcome,
    StepOutcome,
    missing_outcome,
    read_prompt,
    read_step,
)
from rllib_dapo.envs.processes.daemon_threads import DaemonThreads
from rllib_dapo.envs.shown_value import shown
from rllib_dapo.rollout.env_stepper import PendingStep
from rllib_dapo.rollout.environment_guard import (
    EnvironmentFault,
    EnvironmentGuard,
    PromptReset,
    refuse_another_problem,
    results_of,
)
from rllib_dapo.rollout.environment_pool import close_quietly
from rllib_dapo.rollout.gathered_group import GatheredGroup


class SubmittingEnvStepper:
    """Submits responses to one `SingleStepTextEnv`, which may score them in parallel processes.

    A problem is made once for its group, and every response is judged by that very problem. Scores
    that do not come from processes are computed in the threads.
    """

    may_go_on = False

    def __init__(
        self, env: SingleStepTextEnv, *, threads: DaemonThreads, guard: EnvironmentGuard
    ) -> None:
        """Takes one environment for all episodes: a verdict depends on problem and text alone.

        Args:
            env: The environment; it must take submissions.
            threads: Run the environment's own code; they end with `close`.
            guard: Calls the environment.

        Raises:
            ValueError: If responses are to be scored in processes, and the scorer cannot be sent to
                them.
        """
        self.env: gym.Env[Any, Any] = env
        self._env = env
        self._threads = threads
        self._guard = guard
        self._problems: dict[int, Problem] = {}
        self._groups: dict[int, GatheredGroup] = {}  # by the episodes' numbers
        self._has_compared = False
        env.prepare_scoring()

    def prompts(self, seeds: Sequence[int]) -> list[PromptReset]:
        """See `EnvStepper.prompts`."""
        return results_of([self._threads.submit(self._prompt, seed) for seed in seeds])

    def forget(self, seeds: Sequence[int]) -> None:
        """See `EnvStepper.forget`."""
        for seed in seeds:
            self._problems.pop(seed, None)

    def begin_group(self, seed: int, episode_ids: Sequence[int]) -> None:
        """See `EnvStepper.begin_group`."""
        if self._env.scores_groups:
            self._groups |= dict.fromkeys(episode_ids, GatheredGroup(episode_ids))

    def begin_step(self, episode_id: int, seed: int, text: str) -> PendingStep:
        """See `EnvStepper.begin_step`. A group that is scored as a whole waits for its last one."""
        if self._env.scores_groups:
            return self._begin_step_of_group(episode_id, seed, text)
        if not self._env.scores_apart:
            score = self._threads.submit(self._score, seed, text)
            return PendingStep(future=score, result=score.result)

        # The environment does not wait here: its processes score side by side.
        try:
            ticket = self._guard.call(
                "submit", seed, lambda: self._env.submit_to(self._problem_of(seed), text)
            )
        except EnvironmentFault as fault:
            return _failed(str(fault))
        outcome = ticket.outcome
        future = outcome if isinstance(outcome, Future) else _done(outcome)
        return PendingStep(future=future, result=lambda: self._collect(seed, ticket))

    def end_episode(self, episode_id: int) -> None:
        """See `EnvStepper.end_episode`; no episode holds an environment."""
        self._groups.pop(episode_id, None)

    def close(self) -> None:
        """See `EnvStepper.close`."""
        self._threads.close(lambda: close_quietly(self._env))

    def _prompt(self, seed: int) -> PromptReset:
        try:
            self._problems[seed] = problem = self._guard.call(
                "problem", seed, lambda: _checked(self._env.problem(seed))
            )
            self._compare_once(seed, problem)
        except EnvironmentFault as fault:
            return PromptReset.lost(seed, fault)
        return PromptReset(seed=seed, prompt=problem.prompt, max_turns=1)

    def _compare_once(self, seed: int, problem: Problem) -> None:
        """Warns if the problem of a seed is another one the second time.

        It does not make verdicts wrong, for each group has one problem, but a run cannot be resumed
        exactly.
        """
        if self._has_compared:
            return
        self._has_compared = True

        def compare() -> None:
            again = self._env.problem(seed)
            refuse_another_problem(seed, _as_outcome(problem), _as_outcome(_checked(again)))

        with contextlib.suppress(EnvironmentFault):  # it has been told
            self._guard.call("problem", seed, compare)

    def _score(self, seed: int, text: str) -> StepOutcome:
        def score() -> Ticket:
            return self._env.submit_to(self._problem_of(seed), text)

        try:
            ticket = self._guard.call("score", seed, score)
        except EnvironmentFault as fault:
            return missing_outcome(str(fault))
        return self._collect(seed, ticket)

    def _begin_step_of_group(self, episode_id: int, seed: int, text: str) -> PendingStep:
        group = self._groups[episode_id]
        outcome = group.add(episode_id, text)
        if group.is_whole and self._env.scores_apart:
            self._score_group(seed, group)
        elif group.is_whole:
            self._threads.submit(self._score_group, seed, group)
        return PendingStep(future=outcome, result=outcome.result)

    def _score_group(self, seed: int, group: GatheredGroup) -> None:
        """Begins to score a group; what is settled when a verdict comes settles an outcome."""
        outcomes = group.outcomes.values()

        def submit() -> list[Ticket]:
            return self._env.submit_group(self._problem_of(seed), group.texts)

        try:
            tickets = self._guard.call("score_group", seed, submit)
        except EnvironmentFault as fault:
            for outcome in outcomes:
                outcome.set_result(missing_outcome(str(fault)))
            return

        for outcome, ticket in zip(outcomes, tickets, strict=True):
            given = ticket.outcome
            settle = partial(self._settle, outcome, seed, ticket)
            (given if isinstance(given, Future) else _done(given)).add_done_callback(settle)

    def _settle(
        self, outcome: Future[StepOutcome], seed: int, ticket: Ticket, _given: Future[Any]
    ) -> None:
        outcome.set_result(self._collect(seed, ticket))

    def _collect(self, seed: int, ticket: Ticket) -> StepOutcome:
        def collect() -> StepOutcome:
            reward, info = self._env.collect(ticket)
            return read_step(("", reward, True, False, info))

        try:
            return self._guard.call("score", seed, collect)
        except EnvironmentFault as fault:
            return missing_outcome(str(fault))

    def _problem_of(self, seed: int) -> Problem:
        if seed not in self._problems:
            self._problems[seed] = _checked(self._env.problem(seed))
        return self._problems[seed]


def _checked(problem: Any) -> Problem:
    """Returns a problem if it is one.

    Raises:
        BadOutcome: If it is not, or its prompt is not one.
    """
    if not isinstance(problem, Problem):
        raise BadOutcome(f"problem must return a Problem, not {shown(problem)}")
    read_prompt(problem.prompt)
    return problem


def _as_outcome(problem: Problem) -> ResetOutcome:
    return ResetOutcome(prompt=problem.prompt, answer=str(problem.answer))


def _failed(reason: str) -> PendingStep:
    future = _done(missing_outcome(reason))
    return PendingStep(future=future, result=future.result)


def _done(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future
