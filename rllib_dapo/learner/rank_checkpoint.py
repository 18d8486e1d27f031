"""Every Learner's own part of a checkpoint: a file of its rank.

RLlib saves what Learner 0 holds. Under ZeRO each Learner holds another part of the optimizer's
state, so each writes its own. `checkpoint.learners` is the driver's half.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from ray.rllib.core import COMPONENT_OPTIMIZER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner import Learner
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.annotations import override

from rllib_dapo.learner.collectives import rank
from rllib_dapo.learner.node_folder import node_folder
from rllib_dapo.learner.optimizer import in_groups
from rllib_dapo.weight_checksums import BITS

RANKS = "ranks"


class CheckpointedLearner(TorchLearner):
    """A Learner that saves its own part of a checkpoint.

    Attributes:
        updates_after_warmup: Number of optimizer steps taken since the end of the warm-up, which
            is a Learner's place in the schedule of learning rates.
    """

    updates_after_warmup: int

    def save_rank(self, checkpoint: Path, node_ip: str) -> int:
        """Saves this Learner's part; all Learners do so at the same time, between two updates.

        Args:
            checkpoint: Folder of the checkpoint on the driver's node.
            node_ip: Address of the driver's node.

        Returns:
            The fingerprint of its weights.
        """
        with node_folder(checkpoint, node_ip, purpose="save", sender=rank()) as folder:
            state = {
                "updates_after_warmup": self.updates_after_warmup,
                **self.training_state(folder),
            }
            file = rank_file(folder, rank())
            file.parent.mkdir(exist_ok=True)
            torch.save(state, file)
            return self.fingerprint()

    def load_rank(self, checkpoint: Path, node_ip: str) -> int:
        """Restores what `save_rank` saved.

        Args:
            checkpoint: Folder of the checkpoint on the driver's node.
            node_ip: Address of the driver's node.

        Returns:
            The fingerprint of the weights that it then has.
        """
        with node_folder(checkpoint, node_ip, purpose="restore", sender=rank()) as folder:
            state = read_rank(folder, rank())
            self.updates_after_warmup = state.pop("updates_after_warmup")
            self.set_training_state(state, folder)
            return self.fingerprint()

    def training_state(self, checkpoint: Path) -> dict[str, Any]:
        """What `save_rank` keeps beside the place in the schedule: tensors and plain values.

        Without ZeRO it is equal on all Learners, so only the first one's is kept.

        Args:
            checkpoint: Folder for what is not to be in the returned state.
        """
        optimizer = self.get_optimizer(DEFAULT_MODULE_ID)
        return {"optimizer": optimizer.state_dict()} if rank() == 0 else {}

    def set_training_state(self, state: dict[str, Any], checkpoint: Path) -> None:
        """Takes `training_state` back.

        Args:
            state: This Learner's own state.
            checkpoint: Folder with the states of all Learners.
        """
        if rank() > 0:
            state = read_rank(checkpoint, 0)
        optimizer = self.get_optimizer(DEFAULT_MODULE_ID)
        optimizer.load_state_dict(in_groups(state["optimizer"], optimizer))

    def fingerprint(self) -> int:
        """A number that changes with any weight that this Learner holds."""
        return fingerprint(self.module[DEFAULT_MODULE_ID].unwrapped().parameters())

    @property
    def sharding(self) -> str:
        """How the training state is spread over Learners, as a checkpoint names it."""
        return "none"

    @override(Learner)
    def get_state(
        self,
        components: Any = None,
        *,
        not_components: Any = None,
        for_checkpoint: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """RLlib's state.

        Args:
            components: RLlib's.
            not_components: RLlib's.
            for_checkpoint: Whether to leave out weights and optimizer, which every Learner writes
                to disk itself.
            **kwargs: RLlib's.
        """
        if not for_checkpoint:
            return super().get_state(components, not_components=not_components, **kwargs)

        state = super().get_state(
            not_components=[COMPONENT_RL_MODULE, COMPONENT_OPTIMIZER], **kwargs
        )
        module_ids = list(self.module.keys())
        return state | {COMPONENT_RL_MODULE: {module_id: {} for module_id in module_ids}}


def read_rank(checkpoint: Path, number: int) -> dict[str, Any]:
    """What one Learner wrote: tensors and plain values, no pickled object.

    Args:
        checkpoint: Folder of the checkpoint, on this machine.
        number: Rank of the Learner.
    """
    return torch.load(rank_file(checkpoint, number), map_location="cpu", weights_only=True)


def rank_file(checkpoint: Path, number: int) -> Path:
    """Where a Learner's part of a checkpoint is.

    Args:
        checkpoint: Folder of the checkpoint.
        number: Rank of the Learner.
    """
    return checkpoint / RANKS / f"rank_{number:05d}.pt"


def fingerprint(weights: Iterable[torch.Tensor]) -> int:
    """A number that changes with any bit of a weight: the sum of their bits, read as integers.

    A sum of integers is the same in any order. One of floating-point numbers is not: its last
    digits depend on the number of threads, and a checkpoint may be restored on another machine.
    """
    return sum(
        int(weight.detach().view(BITS[weight.itemsize]).sum(dtype=torch.int64))
        for weight in weights
    )
