"""Text environments for language models: single-step Gymnasium environments, data sets and answer rules.

Importing this package registers ``rllib_dapo/Arithmetic-v0`` and ``rllib_dapo/Math-v0`` with Gymnasium.
"""

import gymnasium

from rllib_dapo.envs.base import Problem, SingleStepTextEnv, Verdict
from rllib_dapo.envs.spaces import TextSpace
from rllib_dapo.envs.splits import DatasetOrder
from rllib_dapo.envs.verify import ANSWER_RULES

__all__ = [
    "ANSWER_RULES",
    "DatasetOrder",
    "Problem",
    "SingleStepTextEnv",
    "TextSpace",
    "Verdict",
    "register_environments",
]

_ENTRY_POINTS = {
    "rllib_dapo/Arithmetic-v0": "rllib_dapo.envs.arithmetic:ArithmeticEnv",
    "rllib_dapo/Math-v0": "rllib_dapo.envs.math:MathEnv",
}


def register_environments() -> None:
    """Registers the environments of this package; doing so again changes nothing."""
    for name, entry_point in _ENTRY_POINTS.items():
        if name not in gymnasium.registry:
            # No wrappers: the environments enforce the order of reset and step themselves, and the passive checker
            # looks at every response of every rollout to say what the tests have said once.
            gymnasium.register(name, entry_point, order_enforce=False, disable_env_checker=True)


register_environments()
