"""An environment of its own for each episode under way, from a pool."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import gymnasium as gym

from rllib_dapo.envs.hosts.hosted_env import HostedEnv
from rllib_dapo.envs.hosts.outcomes import (
    ResetOutcome,
    StepOutcome,
    missing_outcome,
    read_reset,
    read_step,
)
from rllib_dapo.envs.processes.daemon_threads import DaemonThreads
from rllib_dapo.rollout.env_stepper import PendingStep
from rllib_dapo.rollout.environment_guard import (
    EnvironmentFault,
    EnvironmentGuard,
    PromptReset,
    refuse_another_problem,
    results_of,
)
from rllib_dapo.rollout.environment_places import EnvironmentPlaces
from rllib_dapo.rollout.environment_pool import EnvironmentPool


@dataclass(kw_only=True, eq=False)
class _Episode:
    """An episode that holds a place, and an environment from its first step on.

    Attributes:
        seed: Its reset seed.
        env: Its environment.
        is_busy: Whether a thread is at work on it, which then gives everything back in the end.
        is_over: Whether it will not be stepped again.
    """

    seed: int
    env: gym.Env[Any, Any] | None = None
    is_busy: bool = True
    is_over: bool = False


class PooledEnvStepper:
    """Steps an environment of its own for each episode.

    More than one thread helps where environments mostly wait for something else, such as a server.
    """

    may_go_on = True

    def __init__(
        self,
        pool: EnvironmentPool,
        *,
        threads: DaemonThreads,
        guard: EnvironmentGuard,
        places: EnvironmentPlaces,
    ) -> None:
        """Takes environments from a pool.

        Args:
            pool: Where episodes get their environments.
            threads: Run the environments; they end with `close`. There are at least as many as
                places, if these are bounded, so that no episode waits for a thread that waits for
                another episode.
            guard: Calls the environments.
            places: Bounds how many environments are used at a time.
        """
        self.env = pool.first
        self._pool = pool
        self._threads = threads
        self._guard = guard
        self._places = places

        self._lock = Lock()
        self._episodes: dict[int, _Episode] = {}
        self._first: dict[int, ResetOutcome] = {}  # what the first reset with a seed gave

    def prompts(self, seeds: Sequence[int]) -> list[PromptReset]:
        """See `EnvStepper.prompts`."""
        futures: list[Future[PromptReset]] = [Future() for _ in seeds]
        for seed, future in zip(seeds, futures, strict=True):
            self._places.take(future, partial(self._run, future, self._prompt, seed))
        return results_of(futures)

    def forget(self, seeds: Sequence[int]) -> None:
        """See `EnvStepper.forget`."""
        for seed in seeds:
            self._first.pop(seed, None)

    def begin_group(self, seed: int, episode_ids: Sequence[int]) -> None:
        """Does nothing: each episode is stepped by itself."""

    def begin_step(self, episode_id: int, seed: int, text: str) -> PendingStep:
        """See `EnvStepper.begin_step`."""
        future: Future[StepOutcome] = Future()
        with self._lock:
            episode = self._episodes.get(episode_id)
            if episode is not None:
                episode.is_busy = True

        if episode is None:
            new = self._episodes[episode_id] = _Episode(seed=seed)
            self._places.take(new, lambda: self._run(future, self._step, new, text))
        else:
            self._run(future, self._step, episode, text)
        return PendingStep(future=future, result=future.result)

    def end_episode(self, episode_id: int) -> None:
        """See `EnvStepper.end_episode`."""
        with self._lock:
            episode = self._episodes.pop(episode_id, None)
            if episode is None or episode.is_over:
                return
            episode.is_over = True
            is_busy = episode.is_busy
        if not self._places.forget(episode) and not is_busy:
            self._give_back(episode)

    def close(self) -> None:
        """See `EnvStepper.close`."""
        self._threads.close(self._pool.close)

    def _run(self, future: Future[Any], function: Any, *arguments: Any) -> None:
        """Has a thread compute what a future gets; never raises, and the future always ends."""

        def run() -> None:
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)

        self._threads.submit(run)

    def _prompt(self, seed: int) -> PromptReset:
        """Resets any free environment; the one of an episode is reset again at its first step."""
        env: gym.Env[Any, Any] | None = None
        try:
            env = self._guard.call("making one", seed, self._acquire)
            outcome = self._reset(env, seed)
        except EnvironmentFault as fault:
            return PromptReset.lost(seed, fault)
        finally:
            if env is not None:
                self._pool.release(env)
            self._places.give_back()

        self._first[seed] = outcome
        return PromptReset(
            seed=seed, prompt=outcome.prompt, tools=outcome.tools, max_turns=outcome.max_turns
        )

    def _step(self, episode: _Episode, text: str) -> StepOutcome:
        """Steps the episode's environment, and gives it back if the episode is over."""
        try:
            if episode.env is None:
                episode.env = self._guard.call("making one", episode.seed, self._acquire)
                again = self._reset(episode.env, episode.seed)
                self._compare(episode.seed, again)
            env = episode.env
            outcome = self._guard.call("step", episode.seed, lambda: read_step(env.step(text)))
        except EnvironmentFault as fault:
            outcome = missing_outcome(str(fault))

        with self._lock:
            episode.is_busy = False
            is_over = episode.is_over or outcome.is_done or math.isnan(outcome.reward)
            episode.is_over = is_over
        if is_over:
            self._give_back(episode)
        return outcome

    def _acquire(self) -> gym.Env[Any, Any]:
        env = self._pool.acquire()
        if isinstance(env, HostedEnv):
            env.while_overdue = self._places.while_overdue
        return env

    def _reset(self, env: gym.Env[Any, Any], seed: int) -> ResetOutcome:
        return self._guard.call("reset", seed, lambda: read_reset(env.reset(seed=seed)))

    def _compare(self, seed: int, again: ResetOutcome) -> None:
        first = self._first.get(seed)
        if first is not None:
            self._guard.call("reset", seed, lambda: refuse_another_problem(seed, first, again))

    def _give_back(self, episode: _Episode) -> None:
        if episode.env is not None:
            self._pool.release(episode.env)
        self._places.give_back()
