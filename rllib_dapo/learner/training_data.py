"""What `LearnerGroup.update` is given: tokens, or references to them, and the plan of the update.

Lengths are known before a token moves, so the driver fixes mini-batches, micro-batches of like work
and the loss's weights (`planning`), whatever the number of Learners. No collective is
needed to agree on them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.annotations import override

from rllib_dapo.core.batching import MiniBatchPlan
from rllib_dapo.core.types import GroupTokens, PromptGroup
from rllib_dapo.learner.planned_batch import PlannedBatch
from rllib_dapo.stored_group import CutTokens, PackedGroup, StoredTokens, WholeGroup, fetch_tokens


@dataclass
class GroupTrainingData(TrainingData):
    """RLlib's `TrainingData`, for groups of responses.

    RLlib would shard episodes by count and cut mini-batches by rows, wrapping round where they do
    not divide. Here both are decided beforehand, in tokens, from the groups' summaries
    (`core.batching`), and each Learner is sent, or fetches, only the responses that it trains on.
    As a subclass of RLlib's it goes through `LearnerGroup.update`.

    Attributes:
        groups: Groups, their tokens, or references to these, by index.
        shards: For each Learner, its part of every mini-batch, in order.
    """

    groups: Mapping[int, PromptGroup | GroupTokens | StoredTokens] = field(default_factory=dict)
    shards: Sequence[Sequence[MiniBatchPlan]] = ()

    @override(TrainingData)
    def validate(self) -> None:
        """Checks that every Learner has equally many steps, since their collectives must match.

        Raises:
            ValueError: If they have not.
        """
        steps = {(len(shard), *map(len, shard)) for shard in self.shards}
        if len(steps) != 1:
            raise ValueError(
                "Learners were planned different numbers of mini- or micro-batches: "
                f"{sorted(steps)}"
            )

    @override(TrainingData)
    def shard(self, num_shards: int, **kwargs: Any) -> list[tuple[TrainingData, dict[str, Any]]]:
        """Gives each Learner its plan and the tokens, or references to them, of responses in it.

        Args:
            num_shards: Number of Learners.
            **kwargs: RLlib's; unused.

        Raises:
            ValueError: If the plan is for another number of Learners.
        """
        if num_shards != len(self.shards):
            raise ValueError(f"planned for {len(self.shards)} Learners, but there are {num_shards}")

        return [
            (
                GroupTrainingData(
                    groups={
                        group: self.groups[group].tokens_of(indices)
                        for group, indices in _planned([shard]).items()
                    },
                    shards=[shard],
                ),
                {},
            )
            for shard in self.shards
        ]

    @override(TrainingData)
    def solve_refs(self) -> None:
        """Fetches what references stand for, of the planned responses alone, all at once."""
        stored = {
            group: tokens.tokens_of(indices)
            for group, indices in _planned(self.shards).items()
            if isinstance(tokens := self.groups[group], (PackedGroup, WholeGroup, CutTokens))
        }
        if stored:
            fetched = fetch_tokens(list(stored.values()))
            self.groups = {**self.groups, **dict(zip(stored, fetched, strict=True))}


def _planned(shards: Sequence[Sequence[MiniBatchPlan]]) -> dict[int, list[int]]:
    """For each group the places of its responses that are in the plan."""
    indices: defaultdict[int, list[int]] = defaultdict(list)
    for shard in shards:
        for minibatch in shard:
            for micro in minibatch:
                for response in micro.responses:
                    indices[response.group].append(response.index)
    return dict(indices)


@dataclass(frozen=True)
class MiniBatch:
    """One optimizer step's data on one Learner, in the form RLlib's update loop walks over.

    Attributes:
        policy_batches: The micro-batches by module.
    """

    policy_batches: dict[str, MicroBatches]

    def env_steps(self) -> int:
        """The number of responses, as `MicroBatches` counts them."""
        return sum(map(len, self.policy_batches.values()))


@dataclass(frozen=True)
class MicroBatches:
    """The micro-batches of one mini-batch.

    Its length counts responses, which is what RLlib logs as module steps.

    Attributes:
        batches: The micro-batches, whose tensors are made when they are needed.
        progress: Where in training this optimizer step lies, in training steps; see
            `learner.schedule`.
        is_first: Whether the policy is still the one that sampled.
    """

    batches: list[PlannedBatch]
    progress: float
    is_first: bool

    def __len__(self) -> int:
        return sum(batch.num_responses for batch in self.batches)


def plan_batches(
    plan: MiniBatchPlan,
    groups: Mapping[int, PromptGroup | GroupTokens | StoredTokens],
    *,
    pad_token_id: int,
    device: torch.device | str,
) -> list[PlannedBatch]:
    """The micro-batches of a planned mini-batch, of which no tensor is made yet.

    Args:
        plan: Micro-batches of one Learner.
        groups: Groups, or their tokens, by index; what the plan names has been fetched.
        pad_token_id: Token id for padding.
        device: Device of the tensors.
    """
    # Groups of which nothing is planned here may still be references.
    fetched = {
        group: tokens
        for group, tokens in groups.items()
        if isinstance(tokens, (PromptGroup, GroupTokens))
    }
    return [
        PlannedBatch(micro, fetched, pad_token_id=pad_token_id, device=device) for micro in plan
    ]
