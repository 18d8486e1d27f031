"""RLlib's own sections: as they are, but a misspelt argument is told what was meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided

from rllib_dapo.config.setting import refuse_unknown_arguments


class InheritedSections(AlgorithmConfig):
    """Every method of RLlib's configuration that sets settings."""


def rllib_sections() -> dict[str, Callable[..., Any]]:
    """The methods of `AlgorithmConfig` that set settings, by name."""
    return {
        name: method
        for name, method in vars(AlgorithmConfig).items()
        if inspect.isfunction(method)
        and not name.startswith("_")
        and any(p.default is NotProvided for p in inspect.signature(method).parameters.values())
    }


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: AlgorithmConfig, *args: Any, **kwargs: Any) -> Any:
        refuse_unknown_arguments(type(self), method.__name__, kwargs)
        return method(self, *args, **kwargs)

    return call


for _name, _method in rllib_sections().items():
    setattr(InheritedSections, _name, _checked(_method))
