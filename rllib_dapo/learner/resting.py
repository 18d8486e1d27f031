"""A Learner that rests: what it does not need while engines sample waits in main memory.

That is the optimizer's state, the gradients, and the frozen model that training began with. The
weights stay where they are, since engines are given them from there. On a machine without a GPU
everything is in main memory as it is, and nothing moves.
"""

from __future__ import annotations

import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor

MAIN_MEMORY = torch.device("cpu")


class RestingLearner(TorchLearner):
    """A Learner whose device is an engine's at times (`rollout.colocate`).

    A checkpoint may be written in either state: the optimizer's state is saved from where it is.
    """

    def rest(self) -> None:
        """Leaves the device to an engine, but for the weights; between two updates."""
        self.move_training_state(MAIN_MEMORY)
        self.module[DEFAULT_MODULE_ID].unwrapped().rest_reference()
        self.give_memory_back()

    def give_memory_back(self) -> None:
        """Leaves to other processes what torch keeps of the GPU and does not use."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.empty_cache()

    def resume(self) -> None:
        """Takes the training state back to the device, before an update.

        The reference comes back when it is first asked.
        """
        self.move_training_state(self._device)

    def move_training_state(self, device: torch.device) -> None:
        """Moves what training needs beside the weights.

        Args:
            device: Where to.
        """
        optimizer = self.get_optimizer(DEFAULT_MODULE_ID)
        # Those of an update that has failed in the middle would be added to the next one's.
        optimizer.zero_grad(set_to_none=True)
        move_state(optimizer, device)


def move_state(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Moves what an optimizer keeps of each parameter; parameters stay where they are.

    Args:
        optimizer: The optimizer; before its first step it keeps nothing.
        device: Where to.
    """
    # Tables that an 8-bit optimizer keeps once for all parameters are moved once. Every key is of a
    # tensor that was there from the start, so no two have the same.
    moved: dict[int, Tensor] = {}

    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, Tensor):
                if id(value) not in moved:
                    moved[id(value)] = value.to(device)
                state[name] = moved[id(value)]
