"""The way of the weights from the Learners to the engines, in pieces through Ray's object store.

RLlib's own way, `get_state` and `sync_weights`, would hold the whole model in the driver, and one
Learner alone cannot answer under ZeRO-3, where all of them must take part in gathering a weight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from rllib_dapo.findings import one_line
from rllib_dapo.learner.learner_group import ask_learners

if TYPE_CHECKING:
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


def transfer_weights(
    learner_group: LearnerGroup,
    env_runner_group: EnvRunnerGroup,
    *,
    local_env_runner: bool,
    timeout_seconds: float | None,
) -> WeightTransfer:
    """Hands the Learners' weights to every engine.

    Args:
        learner_group: The Learners; all of them are asked at the same time.
        env_runner_group: The EnvRunners with the engines.
        local_env_runner: Whether the EnvRunner in this process has an engine.
        timeout_seconds: Longest wait for the EnvRunners; None waits as long as it takes.

    Raises:
        RuntimeError: If an engine does not take them; one line.
    """
    # The first Learner's answer has the references to all pieces; those of the others are empty.
    pieces, version = ask_learners(
        learner_group, lambda learner: (learner.weight_pieces(), learner.weights_version)
    )[0]

    # A refusal is returned rather than raised: where EnvRunners are restarted after errors, RLlib
    # would log it and go on.
    def load(runner: TextEnvRunner) -> tuple[int, str, int, Any]:
        try:
            held, refusal = runner.load_weights(pieces, version), ""
        except (RuntimeError, ValueError) as error:
            held, refusal = -1, one_line(error)
        return held, refusal, runner.worker_index, runner.engine_facts

    loaded = env_runner_group.foreach_env_runner(
        load, local_env_runner=local_env_runner, timeout_seconds=timeout_seconds
    )
    for _, refusal, _, _ in loaded:
        if refusal:
            raise RuntimeError(refusal)
    return WeightTransfer(
        version=version,
        versions=[held for held, *_ in loaded],
        engines={str(index): facts for _, _, index, facts in loaded},
    )
