"""Weights that an engine reads where the Learner on the same GPU has them: CUDA IPC.

Here the Learners ask the engines themselves, bucket by bucket: only they know where a bucket lies.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.annotations import override

from rllib_dapo.weight_transfer.both_sides import Answers, Refusal, ask_both_sides, refusal_as_value
from rllib_dapo.weight_transfer.faults import SideError, name_of
from rllib_dapo.weight_transfer.transfer import Holding, TransferWay, WeightTransfer

if TYPE_CHECKING:
    from rllib_dapo.learner.learner import DAPOTorchLearner
    from rllib_dapo.rollout.engine import Engine
    from rllib_dapo.rollout.env_runner import TextEnvRunner


@dataclass
class EngineActors:
    """Asks engines from a Learner's process; the form of vLLM's `VLLMWeightSyncClient`.

    Attributes:
        actors: The EnvRunners' actors by index.
        timeout_seconds: Longest wait for an answer; None waits as long as it takes.
        version: Version of the weights that are sent next.
    """

    actors: dict[int, Any]
    timeout_seconds: float | None
    version: int = -1

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Has all engines take note of how weights will come."""
        self._ask(lambda engine: engine.open_transfer(init_info))

    def start_weight_update(self) -> None:
        """Has all engines make ready, and sample no more until the end."""
        version = self.version
        self._ask(lambda engine: engine.start_transfer(version))

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Has all engines load a bucket, and waits for them: its memory is used again."""
        self._ask(lambda engine: engine.continue_transfer(update_info))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Has all engines come to an end."""
        self._ask(lambda engine: engine.finish_transfer())

    def _ask(self, question: Callable[[Engine], None]) -> None:
        """Asks all engines.

        Raises:
            RuntimeError: If one fails, naming its EnvRunner; one line.
        """

        def ask(runner: TextEnvRunner) -> None:
            question(runner.module[DEFAULT_MODULE_ID].engine)

        asked = {
            runner: actor.apply.remote(refusal_as_value(ask))
            for runner, actor in self.actors.items()
        }
        for runner, answer in asked.items():
            try:
                answered = ray.get(answer, timeout=self.timeout_seconds)
            except GetTimeoutError as error:
                raise RuntimeError(
                    f"weights.timeout_s={self.timeout_seconds} is over, and {name_of(runner)} has "
                    "not answered"
                ) from error
            except RayActorError as error:
                raise RuntimeError(f"the process of {name_of(runner)} has ended") from error
            if isinstance(answered, Refusal):
                raise RuntimeError(f"{name_of(runner)}: {answered.reason}")


class SharedMemoryWay(TransferWay):
    """Learners and engines on the same GPUs, in processes of their own."""

    _members_connected: frozenset[int] = frozenset()
    _key = ""

    @override(TransferWay)
    def transfer(self) -> WeightTransfer:
        """See `TransferWay.transfer`."""
        members = self._members()
        looked = self._ask(
            of_learner=lambda learner: learner.weights_version,
            of_runner=lambda runner: runner.module[DEFAULT_MODULE_ID].engine.transfer_key,
            runners=members,
            what="the preparation of a transfer of weights",
        )
        version = looked.learners[0]
        if not members:
            return self._outcome(version, {})

        is_connected = frozenset(members) == self._members_connected and all(
            key == self._key for key in looked.runners.values()
        )
        try:
            if not is_connected:
                self._connect(members)
            return self._send(version, members)
        except SideError:
            self.close()
            raise

    @override(TransferWay)
    def close(self) -> None:
        """See `TransferWay.close`."""
        self._members_connected, self._key = frozenset(), ""

    def _connect(self, members: list[int]) -> None:
        places = self._ask(
            of_learner=lambda learner: gpu_of_this_process(),
            of_runner=lambda runner: (
                gpu_of_this_process(),
                ray.get_runtime_context().current_actor,
            ),
            runners=members,
            what="the preparation of a transfer of weights",
        )
        refuse_other_gpus(
            places.learners, {runner: place for runner, (place, _) in places.runners.items()}
        )

        actors = {runner: actor for runner, (_, actor) in places.runners.items()}
        bucket_bytes, timeout_seconds = self._bucket_bytes, self._timeout_seconds
        key = uuid.uuid4().hex

        def open_sender(learner: DAPOTorchLearner) -> None:
            from rllib_dapo.weight_transfer.vllm_senders import open_sender

            client = EngineActors(actors, timeout_seconds)
            open_sender(learner, "ipc", bucket_bytes=bucket_bytes, meeting={}, client=client)

        def note_key(runner: TextEnvRunner) -> None:
            runner.module[DEFAULT_MODULE_ID].engine.transfer_key = key

        self._ask(
            of_learner=open_sender,
            of_runner=note_key,
            runners=members,
            what="connecting Learner and engines over ipc",
        )
        self._members_connected, self._key = frozenset(members), key

    def _send(self, version: int, members: list[int]) -> WeightTransfer:
        def send(learner: DAPOTorchLearner) -> None:
            from rllib_dapo.weight_transfer.vllm_senders import send

            learner.weight_sender.client.version = version  # type: ignore[union-attr]
            send(learner)

        what = f"the transfer of version {version} of the weights"
        self._ask(of_learner=send, runners=[], what=what)
        held = self._ask(
            of_learner=None,
            of_runner=lambda runner: Holding.after(runner, lambda engine: None, version),
            runners=members,
            what=what,
        )
        return self._outcome(version, held.runners)

    def _ask(self, **question: Any) -> Answers:
        return ask_both_sides(
            self._learner_group,
            self._env_runner_group,
            timeout_seconds=self._timeout_seconds,
            **question,
        )


def gpu_of_this_process() -> tuple[str, str]:
    """Node and GPU (by its UUID) that this process computes on."""
    import torch

    gpu = str(torch.cuda.get_device_properties(0).uuid) if torch.cuda.is_available() else "none"
    return ray.get_runtime_context().get_node_id(), gpu


def refuse_other_gpus(learners: list[tuple[str, str]], runners: dict[int, tuple[str, str]]) -> None:
    """Refuses engines on GPUs that no Learner computes on.

    Args:
        learners: Node and GPU of each Learner.
        runners: Node and GPU of each EnvRunner.

    Raises:
        SideError: One line.
    """
    for runner, place in runners.items():
        if place not in learners:
            where = "machine" if place[0] not in {node for node, _ in learners} else "GPU"
            raise SideError(
                f"weights.transfer='ipc' cannot reach {name_of(runner)}: no Learner is on its "
                f"{where}. Give each Learner and EnvRunner half a GPU on the same machines, or set "
                "weights.transfer to object_store"
            )
