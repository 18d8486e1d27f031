"""What an environment says to a response, for both ways of asking it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym

from rllib_dapo.envs import SingleStepTextEnv
from rllib_dapo.rollout.environment_pool import EnvironmentSupply

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What one step of an environment gives.

    Attributes:
        observation: What the model reads next.
        reward: Of this step; NaN where there is no verdict, which ends the episode.
        is_over: Whether the episode is over.
        info: Of this step.
    """

    observation: str
    reward: float
    is_over: bool
    info: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """An answer that is on its way: once `future` is done, `read` returns it."""

    future: Future[Any]
    read: Callable[[], Answer]


class Answerer(Protocol):
    """Puts responses to an environment."""

    env: gym.Env[Any, Any]

    def ask(self, episode: int, seed: int, text: str) -> Asked:
        """Begins a step.

        Args:
            episode: The caller's number for the episode; its first step resets an environment.
            seed: The episode's reset seed.
            text: The response.
        """

    def leave(self, episode: int) -> None:
        """Tells that an episode that is not over will not go on."""

    def close(self) -> None:
        """Closes the environment, and all others that were made like it."""


def make_answerer(make: Callable[[int], gym.Env[Any, Any]], *, num_threads: int) -> Answerer:
    """Makes an environment, and chooses how it is asked.

    Args:
        make: Makes an environment, given how many were made before.
        num_threads: How many threads step environments that take more than one step, or are no
            `SingleStepTextEnv`.
    """
    env = make(0)
    # A wrapper has its say in what reset and step return, so only a bare environment can be asked
    # in another way.
    if isinstance(env, SingleStepTextEnv) and env.takes_submissions:
        return SubmittingAnswerer(env)
    return SteppingAnswerer(EnvironmentSupply(env, make=make), num_threads=num_threads)


class SubmittingAnswerer:
    """Submits responses to a `SingleStepTextEnv`, which may score them in processes, side by side."""

    def __init__(self, env: SingleStepTextEnv) -> None:
        """Asks `env` alone: what it says depends on nothing but seed and text."""
        self.env: gym.Env[Any, Any] = env
        self._env = env

    def ask(self, episode: int, seed: int, text: str) -> Asked:
        """See `Answerer.ask`."""
        ticket = self._env.submit(seed, text)
        outcome = ticket.outcome

        def read() -> Answer:
            reward, info = self._env.collect(ticket)
            return Answer(observation="", reward=reward, is_over=True, info=info)

        return Asked(future=outcome if isinstance(outcome, Future) else _done(outcome), read=read)

    def leave(self, episode: int) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """See `Answerer.close`."""
        self._env.close()


class SteppingAnswerer:
    """Steps an environment of its own for each episode; in threads, where environments mostly wait for others."""

    def __init__(self, supply: EnvironmentSupply, *, num_threads: int) -> None:
        """Takes environments from `supply`; with one thread, that is the caller's own."""
        self.env = supply.first
        self._supply = supply
        self._threads = ThreadPoolExecutor(num_threads, "environment") if num_threads > 1 else None
        self._held: dict[int, gym.Env[Any, Any]] = {}
        self._told_of_raising = False

    def ask(self, episode: int, seed: int, text: str) -> Asked:
        """See `Answerer.ask`."""
        if self._threads is None:
            future = _done(self._step(episode, seed, text))
        else:
            future = self._threads.submit(self._step, episode, seed, text)
        return Asked(future=future, read=future.result)

    def leave(self, episode: int) -> None:
        """Gives the episode's environment back."""
        env = self._held.pop(episode, None)
        if env is not None:
            self._supply.give_back(env)

    def close(self) -> None:
        """See `Answerer.close`."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        self._supply.close()

    def _step(self, episode: int, seed: int, text: str) -> Answer:
        """One that raises on some text, or answers with no text, gives a missing reward, not a crash."""
        try:
            if episode not in self._held:
                self._held[episode] = self._supply.take()
                self._held[episode].reset(seed=seed)
            observation, reward, terminated, truncated, info = self._held[episode].step(text)
            is_over = bool(terminated or truncated)
            if not is_over and not isinstance(observation, str):
                raise TypeError(
                    f"step must return a text to go on with, not {type(observation).__name__}"
                )
            answer = Answer(
                observation=str(observation), reward=float(reward), is_over=is_over, info=info
            )
        except Exception as error:
            if not self._told_of_raising:  # once is enough: it may happen for every response
                logger.exception(
                    "the environment raised on seed %d, text %.200r: its reward is missing",
                    seed,
                    text,
                )
                self._told_of_raising = True
            reason = f"crash: the environment raised {type(error).__name__}: {error}"
            answer = Answer(
                observation="", reward=math.nan, is_over=True, info={"missing_reason": reason}
            )
        if answer.is_over:
            self.leave(episode)
        return answer


def _done(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future
