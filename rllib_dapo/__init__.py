"""DAPO (arXiv 2503.14476) as an algorithm for Ray RLlib.

Importing this package adds the algorithm to RLlib's own, so that `tune.Tuner("DAPO")` finds it, and
registers the environments with Gymnasium. The import itself is light: `DAPO`, `DAPOConfig` and
`JointSpace` are loaded when they are first used. Where Ray is not installed, `rllib_dapo.core` (the
mathematics) and `rllib_dapo.envs` (the environments) still work.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from wrapt import when_imported

if TYPE_CHECKING:
    from rllib_dapo.algorithm import DAPO
    from rllib_dapo.config.dapo_config import DAPOConfig
    from rllib_dapo.run.quiet_python import quiet
    from rllib_dapo.run.search.joint_space import JointSpace
    from rllib_dapo.run.shared_engines import shared_engine

__all__ = ["DAPO", "DAPOConfig", "JointSpace", "quiet", "shared_engine"]

_MODULE_OF = {
    "DAPO": "rllib_dapo.algorithm",
    "DAPOConfig": "rllib_dapo.config.dapo_config",
    "JointSpace": "rllib_dapo.run.search.joint_space",
    "quiet": "rllib_dapo.run.quiet_python",
    "shared_engine": "rllib_dapo.run.shared_engines",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Tune looks up a name that it does not know in this table of RLlib's, after every `ray.init`. To
# register the name with Tune, the whole algorithm would have to be loaded here, and Ray forgets it
# at `ray.shutdown`.
@when_imported("ray.rllib.algorithms.registry")
def _list_in_rllib(registry: ModuleType) -> None:
    def load() -> tuple[type, Any]:
        algorithm = import_module("rllib_dapo.algorithm").DAPO
        return algorithm, algorithm.get_default_config()

    registry.ALGORITHMS["DAPO"] = load


# The import registers the environments. It is put off because `rllib_dapo.core` does without
# Gymnasium.
@when_imported("gymnasium")
def _register_environments(_: ModuleType) -> None:
    import_module("rllib_dapo.envs")
