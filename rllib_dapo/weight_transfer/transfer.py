"""The way of the weights from the Learners to the engines: one interface, several ways.

RLlib's own way, `get_state` and `sync_weights`, would hold the whole model in the driver, and one
Learner alone cannot answer under ZeRO-3, where all of them must take part in gathering a weight.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo.rollout.engine import EngineDiedError
from rllib_dapo.rollout.engine_death import end_with_engine

if TYPE_CHECKING:
    from rllib_dapo.rollout.engine import Engine
    from rllib_dapo.rollout.env_runner import TextEnvRunner


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightTransfer:
    """What a transfer of weights has led to.

    Attributes:
        version: Version of the Learners' weights: the number of updates they have seen.
        versions: Version that each EnvRunner's engine now holds.
        engines: Facts about each engine, by the index of its EnvRunner.
    """

    version: int
    versions: list[int]
    engines: dict[str, Any]

    def check_arrival(self) -> None:
        """Makes sure that every engine holds the weights that were sent.

        Raises:
            RuntimeError: If one holds another version.
        """
        if set(self.versions) - {self.version}:
            raise RuntimeError(
                f"engines hold other weights than version {self.version} after a sync: "
                f"versions {self.versions}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
    """What an EnvRunner says after a transfer.

    Attributes:
        version: Version of the weights that its engine now holds.
        facts: Facts about the engine.
    """

    version: int
    facts: Any

    @classmethod
    def after(cls, runner: TextEnvRunner, take: Callable[[Engine], None], version: int) -> Holding:
        """Has an EnvRunner take new weights; run in its process.

        Args:
            runner: The EnvRunner.
            take: Hands the weights to its engine.
            version: Version of these weights.
        """
        try:
            held = runner.take_weights(take, version)
        except EngineDiedError as error:
            end_with_engine(runner, error)  # where it returns, nobody would start it anew
            raise
        return cls(version=held, facts=runner.engine_facts)


class TransferWay(ABC):
    """A way of the weights, between the same Learners and EnvRunners again and again."""

    def __init__(
        self,
        learner_group: LearnerGroup,
        env_runner_group: EnvRunnerGroup,
        *,
        bucket_bytes: int,
        timeout_seconds: float | None,
        tolerates_deaths: bool,
    ) -> None:
        """Nothing is connected yet.

        Args:
            learner_group: The Learners; all of them are asked at the same time.
            env_runner_group: The EnvRunners with the engines.
            bucket_bytes: Size of what is on the way at a time.
            timeout_seconds: Longest time that a transfer may take; None means no limit.
            tolerates_deaths: Whether a run goes on where an EnvRunner dies.
        """
        self._learner_group = learner_group
        self._env_runner_group = env_runner_group
        self._bucket_bytes = bucket_bytes
        self._timeout_seconds = timeout_seconds
        self._tolerates_deaths = tolerates_deaths

    @abstractmethod
    def transfer(self) -> WeightTransfer:
        """Hands the Learners' weights to every engine that is alive.

        An EnvRunner that dies meanwhile is left to RLlib where it restarts EnvRunners.

        Raises:
            RuntimeError: If a side fails or does not come to an end in time: one line that names
                it. Engines that hold a part of the new weights refuse to sample then.
        """

    def close(self) -> None:  # noqa: B027 (there may be nothing to close)
        """Takes connections down; the next transfer would make them anew."""

    def _members(self) -> list[int]:
        """Indices of the EnvRunners with engines that are alive; 0 is the one of this process."""
        if self._env_runner_group.num_remote_env_runners():
            return sorted(self._env_runner_group.healthy_env_runner_ids())
        return [0] if self._env_runner_group.local_env_runner is not None else []

    def _time_left(self, started: float) -> float | None:
        """What is left of the longest time of a transfer, in seconds; None where there is none.

        Args:
            started: When it began, by `time.monotonic`.
        """
        if self._timeout_seconds is None:
            return None
        return max(0.0, self._timeout_seconds - (time.monotonic() - started))

    @staticmethod
    def _outcome(version: int, holdings: dict[int, Holding]) -> WeightTransfer:
        return WeightTransfer(
            version=version,
            versions=[holding.version for holding in holdings.values()],
            engines={str(index): holding.facts for index, holding in holdings.items()},
        )
