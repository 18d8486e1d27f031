"""DAPO (arXiv 2503.14476) as an algorithm for Ray RLlib.

Importing this package registers the algorithm with Tune as `"DAPO"` and the environments with
Gymnasium. Where Ray is not installed, only `rllib_dapo.core` (the mathematics) is of use, and it
asks for nothing but torch.
"""

from importlib.util import find_spec

if find_spec("ray") is not None:
    from ray import tune

    import rllib_dapo.envs  # noqa: F401  (registers the environments)
    from rllib_dapo.algorithm import DAPO
    from rllib_dapo.config.dapo_config import DAPOConfig

    tune.register_trainable("DAPO", DAPO)

    __all__ = ["DAPO", "DAPOConfig"]
