"""A run file's variants: named sets of settings, each tried as one trial.

They make a grid over the variants' names. Tune draws the name, and each attribute of `DAPOConfig`
that is not the same in all variants is a function of it (`tune.sample_from`). So trials, results
and whatever else Tune writes show both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray import tune

from rllib_dapo.config.dapo_config import DAPOConfig
from rllib_dapo.run.search.search_spaces import drawn_value


@dataclass(frozen=True, slots=True)
class FollowsVariant:
    """The value of an attribute as a function of the variant's name.

    Attributes:
        values: The attribute's value by name of the variant. Values may contain search spaces,
            which Tune resolves in its next pass.
    """

    values: Mapping[str, Any]

    def __call__(self, spec: Mapping[str, Any]) -> Any:
        """Tune calls this when it has drawn a name; `spec["config"]` is what is drawn so far."""
        return self.values[drawn_value(spec, "variant")]


def followers(configs: Mapping[str, DAPOConfig]) -> tuple[str, ...]:
    """The attributes of `DAPOConfig` that differ between variants, and so follow from the name.

    Args:
        configs: The configuration of each variant, by name.
    """
    first, *others = (vars(config) for config in configs.values())
    return tuple(
        name
        for name in first
        if name != "variant" and any(other[name] != first[name] for other in others)
    )


def grid_of_variants(configs: Mapping[str, DAPOConfig]) -> DAPOConfig:
    """Makes one configuration for `tune.Tuner` that tries each of several.

    Args:
        configs: At least one configuration, by name of the variant. Search spaces that they share
            must be the same objects.
    """
    grid = next(iter(configs.values())).copy(copy_frozen=False)
    for name in followers(configs):
        values = {variant: getattr(config, name) for variant, config in configs.items()}
        setattr(grid, name, tune.sample_from(FollowsVariant(values)))
    grid.variant = tune.grid_search(list(configs))
    return grid
