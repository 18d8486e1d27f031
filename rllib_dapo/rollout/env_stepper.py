"""Stepping environments with responses: what the loop of a rollout wants of an environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym

from rllib_dapo.envs.hosts.outcomes import StepOutcome
from rllib_dapo.rollout.environment_guard import PromptReset


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingStep:
    """A step that was begun.

    Attributes:
        future: Is done once the environment is.
        result: Returns what the step gave; waits for `future` where it is not done. It never
            raises: a step that failed gives no verdict.
    """

    future: Future[Any]
    result: Callable[[], StepOutcome]


class EnvStepper(Protocol):
    """Resets and steps the environments of many episodes at once.

    All that an environment does runs in threads beside the caller's, so that a slow one never holds
    up the engine. What it does wrong becomes the reason for a prompt or a reward that is missing.

    Attributes:
        env: The first environment.
        may_go_on: Whether an episode can have a second step.
    """

    env: gym.Env[Any, Any]
    may_go_on: bool

    def prompts(self, seeds: Sequence[int]) -> list[PromptReset]:
        """Resets with each seed.

        Args:
            seeds: Reset seeds of the prompts.

        Returns:
            What each reset gave, in the order of the seeds. Later resets with these seeds are
            compared with it, until they are forgotten.
        """

    def forget(self, seeds: Sequence[int]) -> None:
        """Drops what is kept of prompts: there will be no further episode with these seeds.

        Args:
            seeds: Reset seeds of the prompts; one that is not known is left out.
        """

    def begin_group(self, seed: int, episode_ids: Sequence[int]) -> None:
        """Says which episodes are the group of one prompt, before the first of their steps.

        Args:
            seed: Reset seed of the prompt.
            episode_ids: The caller's numbers for the episodes.
        """

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
