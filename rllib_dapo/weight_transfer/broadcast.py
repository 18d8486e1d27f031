"""Weights broadcast from the first Learner to all workers of all engines: over gloo, or NCCL.

Both take the same calls of vLLM's interface. Over gloo, whoever waits for a side that has failed is
freed at once, and a time-out can say what each side was doing; NCCL can do neither.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ray
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.annotations import override

from rllib_dapo.weight_transfer.both_sides import Answers, ask_both_sides
from rllib_dapo.weight_transfer.faults import LEARNERS, SideError, name_of
from rllib_dapo.weight_transfer.transfer import Holding, TransferWay, WeightTransfer
from rllib_dapo.weight_transfer.wire.transfer_group import SENDER, MeetingPlace

if TYPE_CHECKING:
    from rllib_dapo.learner.learner import DAPOTorchLearner
    from rllib_dapo.rollout.env_runner import TextEnvRunner

logger = logging.getLogger(__name__)

# Longer than anybody who waits needs to show a sign of life.
_SIGN_OF_LIFE_SECONDS = 1.0


class BroadcastWay(TransferWay):
    """One group of the first Learner and all workers, made anew whenever its members change."""

    def __init__(self, *args: Any, way: str, **kwargs: Any) -> None:
        """Nothing is connected yet.

        Args:
            *args: As for `TransferWay`.
            way: `"gloo"` or `"nccl"`.
            **kwargs: As for `TransferWay`.
        """
        super().__init__(*args, **kwargs)
        self._way = way
        self._key = ""
        self._offsets: dict[int, int] = {}  # place of each EnvRunner's first worker in the group
        self._world_size = 1
        self._update: dict[str, Any] = {}
        self._meeting_place: MeetingPlace | None = None

    @override(TransferWay)
    def transfer(self) -> WeightTransfer:
        """See `TransferWay.transfer`."""
        while True:
            members = self._members()
            try:
                version, is_connected = self._look(members)
                if not members:
                    return self._outcome(version, {})
                if not is_connected:
                    self._connect(members)
                return self._outcome(version, self._send(version, members).runners)
            except SideError as error:
                self.close()
                if not (error.died and self._tolerates_deaths):
                    raise
                # The others hold a part of the new weights: they get them again, as a smaller
                # group.
                logger.warning("%s; the weights go to the others anew", error)

    @override(TransferWay)
    def close(self) -> None:
        """See `TransferWay.close`."""
        self._key, self._offsets, self._meeting_place = "", {}, None

    def _look(self, members: list[int]) -> tuple[int, bool]:
        """Version of the weights, and whether the group is still that of before.

        An EnvRunner may have been restarted since, and its new engine has joined nothing.
        """
        answers = self._ask(
            of_learner=lambda learner: (learner.weights_version, learner.weight_sender is not None),
            of_runner=lambda runner: runner.module[DEFAULT_MODULE_ID].engine.transfer_key,
            runners=members,
            what="the preparation of a transfer of weights",
        )
        version = answers.learners[0][0]
        is_connected = (
            bool(self._key)
            and set(self._offsets) == set(members)
            and all(key == self._key for key in answers.runners.values())
            and all(has_sender for _, has_sender in answers.learners)
        )
        return version, is_connected

    def _connect(self, members: list[int]) -> None:
        """Makes a group of the first Learner and all workers of these EnvRunners' engines."""
        self.close()
        found = self._ask(
            of_learner=lambda learner: _free_address(),
            of_runner=lambda runner: runner.module[DEFAULT_MODULE_ID].engine.num_workers,
            runners=members,
            what="the preparation of a group for weights",
        )
        world_size = 1  # the Learner
        for runner in sorted(found.runners):
            self._offsets[runner] = world_size
            world_size += found.runners[runner]

        meeting = self._meet(world_size, found.learners[0])
        key = uuid.uuid4().hex
        way, bucket_bytes, offsets = self._way, self._bucket_bytes, self._offsets

        def open_sender(learner: DAPOTorchLearner) -> dict[str, Any]:
            # vLLM is loaded on Learners only where this way is taken.
            from rllib_dapo.weight_transfer.vllm_senders import open_sender

            return open_sender(learner, way, bucket_bytes=bucket_bytes, meeting=meeting)

        def open_receiver(runner: TextEnvRunner) -> None:
            engine = runner.module[DEFAULT_MODULE_ID].engine
            offset = offsets[runner.worker_index]
            engine.open_transfer(receiver_info(way, meeting, offset, bucket_bytes=bucket_bytes))
            engine.transfer_key = key

        opened = self._ask(
            of_learner=open_sender,
            of_runner=open_receiver,
            runners=members,
            what=f"connecting Learner and engines over {way}",
        )
        self._update = opened.learners[0]
        self._key = key

    def _send(self, version: int, members: list[int]) -> Answers:
        """One transfer within the group."""
        update = self._update

        def send(learner: DAPOTorchLearner) -> None:
            from rllib_dapo.weight_transfer.vllm_senders import send

            send(learner)

        return self._ask(
            of_learner=send,
            of_runner=lambda runner: Holding.after(
                runner, lambda engine: engine.receive_transfer(update), version
            ),
            runners=members,
            what=f"the transfer of version {version} of the weights",
        )

    def _meet(self, world_size: int, learners_address: tuple[str, int]) -> dict[str, Any]:
        """Where the group meets, in the words of its way."""
        self._world_size = world_size
        if self._way == "nccl":
            host, port = learners_address
            return {"master_address": host, "master_port": port, "world_size": world_size}

        self._meeting_place = MeetingPlace(ray.util.get_node_ip_address())
        return {
            "host": self._meeting_place.host,
            "port": self._meeting_place.port,
            "world_size": world_size,
            "timeout_seconds": self._timeout_seconds,
        }

    def _ask(self, **question: Any) -> Answers:
        return ask_both_sides(
            self._learner_group,
            self._env_runner_group,
            timeout_seconds=self._timeout_seconds,
            on_fault=self._free_others,
            doing=self._doing,
            **question,
        )

    def _free_others(self, fault: str) -> None:
        if self._meeting_place is not None:
            self._meeting_place.report_fault(fault)

    def _doing(self) -> dict[str, str]:
        """What each side is doing; one that waits, but shows no sign of life, hangs there."""
        if self._meeting_place is None:
            return {}
        before = self._notes()
        time.sleep(_SIGN_OF_LIFE_SECONDS)
        after = self._notes()

        return {
            side: words
            if beat > before[side][0] or not words.startswith("waiting")
            else f"no sign of life while {words}"
            for side, (beat, words) in after.items()
        }

    def _notes(self) -> dict[str, tuple[int, str]]:
        """The note of each side; of an engine with several workers, of one that does not wait."""
        assert self._meeting_place is not None
        notes = {LEARNERS: self._meeting_place.doing(SENDER)}
        ends = [*list(self._offsets.values())[1:], self._world_size]
        for (runner, start), end in zip(self._offsets.items(), ends, strict=True):
            workers = [self._meeting_place.doing(rank) for rank in range(start, end)]
            notes[name_of(runner)] = min(workers, key=lambda note: note[1].startswith("waiting"))
        return notes


def receiver_info(
    way: str, meeting: Mapping[str, Any], rank_offset: int, *, bucket_bytes: int
) -> dict[str, Any]:
    """What an engine's workers need to know to join the group.

    Args:
        way: `"gloo"` or `"nccl"`.
        meeting: Where it meets.
        rank_offset: Place of the engine's first worker.
        bucket_bytes: Largest size of a bucket.

    Returns:
        The fields of the way's init info for workers.
    """
    if way == "gloo":
        return {**meeting, "rank_offset": rank_offset, "bucket_bytes": bucket_bytes}
    return {
        **meeting,
        "rank_offset": rank_offset,
        "packed": True,
        "packed_buffer_size_bytes": bucket_bytes,
        "packed_num_buffers": 2,
    }


def _free_address() -> tuple[str, int]:
    """This machine's address, with a port that nobody uses now."""
    import socket

    with socket.socket() as probe:
        probe.bind(("", 0))
        return ray.util.get_node_ip_address(), int(probe.getsockname()[1])
