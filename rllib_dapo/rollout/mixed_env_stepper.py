"""Steps the environments of a mixture, each as it would be stepped alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym

from rllib_dapo.envs.mixture import MixturePart
from rllib_dapo.envs.mixture_env import MixtureEnv, part_refusal
from rllib_dapo.envs.processes.daemon_threads import DaemonThreads
from rllib_dapo.rollout.env_stepper import EnvStepper, PendingStep
from rllib_dapo.rollout.environment_guard import PromptReset


class MixedEnvStepper:
    """Hands seeds and episodes to the stepper of their environment.

    So scorers keep their pools, and environments in processes their processes, whatever the others
    are.
    """

    def __init__(self, env: MixtureEnv, make: Callable[[MixturePart], EnvStepper]) -> None:
        """Makes the steppers of all environments.

        Args:
            env: The mixture.
            make: Makes the stepper of one of its environments.

        Raises:
            ValueError: If an environment cannot be made; one line with its entry.
        """
        self._mixture = env.mixture
        self._steppers: list[EnvStepper] = []
        try:
            for part in self._mixture.parts:
                self._steppers.append(_made(part, make))
        except ValueError:
            self._close_steppers()
            raise

        env.use([stepper.env for stepper in self._steppers])
        self.env: gym.Env[Any, Any] = env
        self.may_go_on = any(stepper.may_go_on for stepper in self._steppers)
        self._stepper_of: dict[int, EnvStepper] = {}  # by episode, from its first step on
        self._threads = DaemonThreads(len(self._steppers), name="mixture")

    def prompts(self, seeds: Sequence[int]) -> list[PromptReset]:
        """See `EnvStepper.prompts`; the environments are reset side by side."""
        resets = {
            index: self._threads.submit(self._steppers[index].prompts, list(visits.values()))
            for index, visits in self._visits(seeds).items()
        }
        found: dict[int, PromptReset] = {}
        for index, visits in self._visits(seeds).items():
            for seed, reset in zip(visits, resets[index].result(), strict=True):
                found[seed] = replace(reset, seed=seed)
        return [found[seed] for seed in seeds]

    def forget(self, seeds: Sequence[int]) -> None:
        """See `EnvStepper.forget`."""
        for index, visits in self._visits(seeds).items():
            self._steppers[index].forget(list(visits.values()))

    def begin_group(self, seed: int, episode_ids: Sequence[int]) -> None:
        """See `EnvStepper.begin_group`."""
        index, visit = self._mixture.place(seed)
        self._steppers[index].begin_group(visit, episode_ids)

    def begin_step(self, episode_id: int, seed: int, text: str) -> PendingStep:
        """See `EnvStepper.begin_step`."""
        index, visit = self._mixture.place(seed)
        stepper = self._stepper_of[episode_id] = self._steppers[index]
        return stepper.begin_step(episode_id, visit, text)

    def end_episode(self, episode_id: int) -> None:
        """See `EnvStepper.end_episode`."""
        stepper = self._stepper_of.pop(episode_id, None)
        if stepper is not None:
            stepper.end_episode(episode_id)

    def close(self) -> None:
        """See `EnvStepper.close`."""
        self._threads.close()
        self._close_steppers()

    def _close_steppers(self) -> None:
        for stepper in self._steppers:
            stepper.close()

    def _visits(self, seeds: Sequence[int]) -> dict[int, dict[int, int]]:
        """Returns, by the number of the environment, its own seeds by those of the mixture."""
        visits: defaultdict[int, dict[int, int]] = defaultdict(dict)
        for seed in seeds:
            index, visit = self._mixture.place(seed)
            visits[index][seed] = visit
        return visits


def _made(part: MixturePart, make: Callable[[MixturePart], EnvStepper]) -> EnvStepper:
    # A user's environment may raise anything.
    try:
        return make(part)
    except Exception as error:
        raise part_refusal(part, error) from error
