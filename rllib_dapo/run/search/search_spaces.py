"""The search spaces of a run file: `{uniform: [0.1, 0.5]}` and the like, with what is in them.

A space is a mapping of one kind to its values: `grid` and `choice` list them, `uniform` and
`loguniform` name both ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ray.tune.search.sample import Domain
from ray.tune.search.variant_generator import RecursiveDependencyError

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.config.setting import attribute_of

Space = Mapping[str, Any]
LISTED = ("grid", "choice")
RANGES = ("uniform", "loguniform")


def space_parts(space: Space) -> tuple[str, list[Any]]:
    """The kind of a space, and its values or both its ends."""
    return next(iter(space.items()))


def attribute_path(name: str) -> tuple[str, ...]:
    """Where Tune finds a setting: an attribute of `DAPOConfig`, and keys below it.

    Args:
        name: Dotted name, such as `environment.env_config.max_operand`.
    """
    section, key, *inner = name.split(".")
    return (attribute_of(f"{section}.{key}", DAPOConfig), *inner)


def drawn_value(spec: Mapping[str, Any], name: str) -> Any:
    """What Tune has drawn for an attribute, for a function that depends on it (`tune.sample_from`).

    Args:
        spec: What Tune calls such a function with.
        name: Name of the attribute.

    Raises:
        RecursiveDependencyError: If it is still to be drawn; Tune then calls again later. Its own
            guard sees only attributes, as in `spec.config.NAME`.
    """
    value = spec["config"][name]
    if isinstance(value, Domain) or (isinstance(value, Mapping) and "grid_search" in value):
        raise RecursiveDependencyError(f"{name} is still to be drawn")
    return value


def space_from(space: Space, least: float) -> dict[str, Any]:
    """The part of a space that is at least a value."""
    kind, values = space_parts(space)
    if kind in LISTED:
        return {kind: [value for value in values if value >= least]}
    low, high = values
    return {kind: [max(low, least), high]}


def space_up_to(space: Space, most: float) -> dict[str, Any]:
    """The part of a space that is at most a value."""
    kind, values = space_parts(space)
    if kind in LISTED:
        return {kind: [value for value in values if value <= most]}
    low, high = values
    return {kind: [low, min(high, most)]}


def quantile(space: Space, share: float) -> float:
    """The value of a space under which a share of its probability lies.

    Args:
        space: A space that is not empty; both ends of a range may be the same.
        share: The share, in [0, 1).
    """
    kind, values = space_parts(space)
    if kind in LISTED:
        return float(values[int(share * len(values))])
    low, high = values
    if kind == "loguniform":
        return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    return float(low + share * (high - low))
