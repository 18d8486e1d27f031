"""A run file's named sets of settings, each tried as one trial: a grid over their names that other settings follow.

Tune draws the name; an attribute of `DAPOConfig` that is not the same in all variants is a function
of it (`tune.sample_from`), so trials, results and whatever Tune writes show both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray import tune

from rllib_dapo.config.dapo_config import DAPOConfig


@dataclass(frozen=True, slots=True)
class FollowsVariant:
    """The value of an attribute as a function of the variant's name.

    Attributes:
        values: By name; there may be search spaces in them, which Tune resolves in its next pass.
    """

    values: Mapping[str, Any]

    def __call__(self, spec: Mapping[str, Any]) -> Any:
        """What Tune asks when it has drawn a name: `spec["config"]` is the trial's configuration so far."""
        return self.values[spec["config"]["variant"]]


def followers(configs: Mapping[str, DAPOConfig]) -> tuple[str, ...]:
    """The attributes of `DAPOConfig` that the variant's name decides: those that are not the same in all.

    Args:
        configs: A configuration for each name.
    """
    first, *others = (vars(config) for config in configs.values())
    return tuple(
        name
        for name in first
        if name != "variant" and any(other[name] != first[name] for other in others)
    )


def grid_of_variants(configs: Mapping[str, DAPOConfig]) -> DAPOConfig:
    """One configuration for `tune.Tuner` that tries each of several.

    Args:
        configs: At least one, by name; search spaces that they share must be the same objects.
    """
    grid = next(iter(configs.values())).copy(copy_frozen=False)
    for name in followers(configs):
        values = {variant: getattr(config, name) for variant, config in configs.items()}
        setattr(grid, name, tune.sample_from(FollowsVariant(values)))
    grid.variant = tune.grid_search(list(configs))
    return grid
