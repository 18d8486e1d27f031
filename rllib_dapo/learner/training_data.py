"""What `LearnerGroup.update` is given: groups (or references to them) and the plan of who trains on what, when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.annotations import override
from torch import Tensor

from rllib_dapo.core.batching import MiniBatchPlan
from rllib_dapo.core.types import PromptGroup

MicroBatch = dict[str, Tensor]


@dataclass
class GroupTrainingData(TrainingData):
    """RLlib's `TrainingData`, for groups of responses.

    RLlib would shard episodes by count and cut mini-batches by rows. Here both are decided
    beforehand, in tokens, from the groups' summaries (`core.batching`), and each Learner fetches
    only the groups it trains on.

    Attributes:
        groups: By index: the group, or a reference to it.
        shards: For each Learner, its part of every mini-batch, in order.
    """

    groups: dict[int, PromptGroup | ray.ObjectRef] = field(default_factory=dict)
    shards: Sequence[Sequence[MiniBatchPlan]] = ()

    @override(TrainingData)
    def validate(self) -> None:
        """Checks that every Learner has work in equally many steps, since their collectives must match."""
        steps = {(len(shard), *map(len, shard)) for shard in self.shards}
        if len(steps) != 1:
            raise ValueError(
                f"Learners were planned different numbers of mini- or micro-batches: {sorted(steps)}"
            )

    @override(TrainingData)
    def shard(self, num_shards: int, **kwargs: Any) -> list[tuple[TrainingData, dict[str, Any]]]:
        """Gives each Learner its plan and the groups in it."""
        if num_shards != len(self.shards):
            raise ValueError(f"planned for {len(self.shards)} Learners, but there are {num_shards}")
        return [
            (
                GroupTrainingData(
                    groups={g: self.groups[g] for g in _groups_of(shard)}, shards=[shard]
                ),
                {},
            )
            for shard in self.shards
        ]

    @override(TrainingData)
    def solve_refs(self) -> None:
        """Fetches the groups, all at once."""
        references = {g: data for g, data in self.groups.items() if isinstance(data, ray.ObjectRef)}
        if references:
            self.groups |= dict(zip(references, ray.get(list(references.values())), strict=True))


def _groups_of(shard: Sequence[MiniBatchPlan]) -> set[int]:
    return {r.group for minibatch in shard for micro in minibatch for r in micro.responses}


@dataclass(frozen=True)
class MiniBatch:
    """One optimizer step's data on one Learner, in the form RLlib's update loop walks over.

    Attributes:
        policy_batches: Per module, the micro-batches.
    """

    policy_batches: dict[str, MicroBatches]

    def env_steps(self) -> int:
        """Responses, as `MicroBatches` counts them."""
        return sum(map(len, self.policy_batches.values()))


@dataclass(frozen=True)
class MicroBatches:
    """The micro-batches of one mini-batch; its length counts responses, which is what RLlib logs as module steps.

    Attributes:
        batches: Tensors of `core.collate`.
        progress: Where in training this optimizer step lies, in training steps; see
            `learner.schedule`.
        is_first: Whether the policy is still the one that sampled.
    """

    batches: list[MicroBatch]
    progress: float
    is_first: bool

    def __len__(self) -> int:
        return sum(len(batch["advantages"]) for batch in self.batches)
