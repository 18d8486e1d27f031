"""What Learners have trained, as a model folder without anything of a run beside it."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_dapo.learner.collectives import rank
from rllib_dapo.learner.model_folder import MODULE_PATH
from rllib_dapo.learner.node_folder import node_folder

if TYPE_CHECKING:
    from rllib_dapo.learner.learner import DAPOTorchLearner


def write_trained_model(learner: DAPOTorchLearner, checkpoint: Path, node_ip: str) -> None:
    """Writes the model, or the adapter, where a checkpoint would have it.

    All Learners call it at the same time: gathering a sharded weight is a call of all of them.

    Args:
        learner: The Learner.
        checkpoint: An existing folder on the node `node_ip`; see `take_arrived`.
        node_ip: Address of the driver's node.
    """
    module = learner.policy_module
    adapter = module.adapter
    weights = iter(learner.engine_weights() if adapter is None else adapter.weights(learner.gather))
    try:
        if rank() == 0:
            with node_folder(checkpoint, node_ip, purpose="save", sender=0) as folder:
                (folder / MODULE_PATH).mkdir(parents=True, exist_ok=True)
                module.write_model(folder / MODULE_PATH, weights)
    finally:
        deque(weights, maxlen=0)  # whoever writes nothing still takes part in the gathering
