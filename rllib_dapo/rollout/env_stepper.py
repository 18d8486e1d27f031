"""Stepping environments with responses, whichever way an environment can best be stepped."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym

from rllib_dapo.envs import SingleStepTextEnv
from rllib_dapo.envs.messages import Conversation, as_conversation
from rllib_dapo.rollout.environment_pool import EnvironmentPool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """What one step of an environment returns.

    Attributes:
        observation: What the model reads next: a text, which is one message of the user, or
            messages.
        reward: Reward of the step. NaN means that there is no verdict, which ends the episode.
        is_done: Whether the episode is over, terminated or truncated.
        info: The step's info.
    """

    observation: str | Conversation
    reward: float
    is_done: bool
    info: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingStep:
    """A step that was begun.

    Attributes:
        future: Is done once the environment is.
        result: Returns the step's result; waits for `future` where it is not done.
    """

    future: Future[Any]
    result: Callable[[], StepResult]


class EnvStepper(Protocol):
    """Steps the environments of many episodes at once."""

    env: gym.Env[Any, Any]

    def begin_step(self, episode_id: int, seed: int, text: str) -> PendingStep:
        """Begins a step of an episode.

        Args:
            episode_id: The caller's number for the episode. Its first step resets an environment.
            seed: The episode's reset seed.
            text: The response, which is the action.
        """

    def end_episode(self, episode_id: int) -> None:
        """Releases the environment of an episode that will not be stepped again.

        An episode whose step said that it is done has ended already; ending it again does nothing.
        """

    def close(self) -> None:
        """Closes all environments."""


def make_env_stepper(make: Callable[[int], gym.Env[Any, Any]], *, num_threads: int) -> EnvStepper:
    """Makes an environment and chooses how it is stepped.

    Args:
        make: Makes an environment, given the number of those made before.
        num_threads: Number of threads that step environments. An environment that takes
            submissions (see `SingleStepTextEnv`) needs none.
    """
    env = make(0)
    # A wrapper may change what `reset` and `step` return, so only a bare environment can be asked
    # in another way.
    if isinstance(env, SingleStepTextEnv) and env.takes_submissions:
        return SubmittingEnvStepper(env)
    return PooledEnvStepper(EnvironmentPool(env, make=make), num_threads=num_threads)


class SubmittingEnvStepper:
    """Submits responses to one `SingleStepTextEnv`, which may score them in parallel processes."""

    def __init__(self, env: SingleStepTextEnv) -> None:
        """Takes one environment for all episodes: a verdict depends on seed and text alone."""
        self.env: gym.Env[Any, Any] = env
        self._env = env

    def begin_step(self, episode_id: int, seed: int, text: str) -> PendingStep:
        """See `EnvStepper.begin_step`."""
        ticket = self._env.submit(seed, text)

        def result() -> StepResult:
            reward, info = self._env.collect(ticket)
            return StepResult(observation="", reward=reward, is_done=True, info=info)

        outcome = ticket.outcome
        future = outcome if isinstance(outcome, Future) else _done(outcome)
        return PendingStep(future=future, result=result)

    def end_episode(self, episode_id: int) -> None:
        """Does nothing: no episode holds an environment."""

    def close(self) -> None:
        """See `EnvStepper.close`."""
        self._env.close()


class PooledEnvStepper:
    """Steps an environment of its own for each episode.

    Threads help where environments mostly wait for something else, such as a server.
    """

    def __init__(self, pool: EnvironmentPool, *, num_threads: int) -> None:
        """Takes environments from a pool.

        Args:
            pool: Where episodes get their environments.
            num_threads: Number of threads that step them; 1 means the caller's own.
        """
        self.env = pool.first
        self._pool = pool
        self._threads = ThreadPoolExecutor(num_threads, "environment") if num_threads > 1 else None
        self._env_of_episode: dict[int, gym.Env[Any, Any]] = {}
        self._has_logged_exception = False

    def begin_step(self, episode_id: int, seed: int, text: str) -> PendingStep:
        """See `EnvStepper.begin_step`."""
        if self._threads is None:
            future = _done(self._step(episode_id, seed, text))
        else:
            future = self._threads.submit(self._step, episode_id, seed, text)
        return PendingStep(future=future, result=future.result)

    def end_episode(self, episode_id: int) -> None:
        """See `EnvStepper.end_episode`."""
        env = self._env_of_episode.pop(episode_id, None)
        if env is not None:
            self._pool.release(env)

    def close(self) -> None:
        """See `EnvStepper.close`."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        self._pool.close()

    def _step(self, episode_id: int, seed: int, text: str) -> StepResult:
        """Steps, and makes a missing reward of whatever the environment raises."""
        try:
            result = self._step_or_raise(episode_id, seed, text)
        except Exception as error:
            # Logged once: an environment that raises may do so on every response.
            if not self._has_logged_exception:
                logger.exception(
                    "the environment raised on seed %d, text %.200r: its reward is missing",
                    seed,
                    text,
                )
                self._has_logged_exception = True
            reason = f"crash: the environment raised {type(error).__name__}: {error}"
            result = StepResult(
                observation="", reward=math.nan, is_done=True, info={"missing_reason": reason}
            )

        if result.is_done:
            self.end_episode(episode_id)
        return result

    def _step_or_raise(self, episode_id: int, seed: int, text: str) -> StepResult:
        if episode_id not in self._env_of_episode:
            self._env_of_episode[episode_id] = self._pool.acquire()
            self._env_of_episode[episode_id].reset(seed=seed)
        env = self._env_of_episode[episode_id]

        observation, reward, terminated, truncated, info = env.step(text)

        is_done = bool(terminated or truncated)
        if not isinstance(observation, str):
            # At the end of an episode the model reads nothing more, and it may be anything.
            if not is_done and not isinstance(observation, list | tuple):
                raise TypeError(
                    f"step must return a text to go on with, not {type(observation).__name__}"
                )
            observation = "" if is_done else as_conversation(observation)
        return StepResult(observation=observation, reward=float(reward), is_done=is_done, info=info)


def _done(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future
