"""What population based training may do to a trial's configuration, and what it must not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.search.sample import Domain

from rllib_dapo.run.search.clip_bounds import HIGH, LOW
from rllib_dapo.run.search.search_spaces import (
    LISTED,
    RANGES,
    Space,
    attribute_path,
    space_parts,
)


@dataclass(frozen=True, slots=True)
class Mutations:
    """The spaces that values are drawn from, and the function that corrects a perturbation.

    Attributes:
        search: Search spaces by dotted name.
    """

    search: Mapping[str, Space]

    def distributions(self) -> dict[str, Any]:
        """Tune's `hyperparam_mutations`: by attribute, a list of values or a distribution."""
        tree: dict[str, Any] = {}
        for name, space in self.search.items():
            kind, values = space_parts(space)
            drawn: list[Any] | Domain = list(values)
            if kind in RANGES:
                drawn = getattr(tune, kind)(*values)

            *outer, last = attribute_path(name)
            branch = tree
            for key in outer:
                branch = branch.setdefault(key, {})
            branch[last] = drawn
        return tree

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        """Corrects a perturbed configuration in place, as Tune's `custom_explore_fn`.

        Perturbation multiplies values without regard to their spaces or to each other. Each value
        is moved back into its space, and the upper clip bound over the lower one.
        """
        for name, space in self.search.items():
            kind, values = space_parts(space)
            *outer, last = attribute_path(name)
            branch = config
            for key in outer:
                branch = branch[key]
            if kind in RANGES:
                low, high = values
                branch[last] = min(max(branch[last], low), high)

        self._order_bounds(config)
        return config

    def _order_bounds(self, config: dict[str, Any]) -> None:
        """Moves the upper bound over the lower one, or else the lower one under the upper."""
        (low,), (high,) = attribute_path(LOW), attribute_path(HIGH)
        if not {LOW, HIGH} & set(self.search) or config[low] <= config[high]:
            return

        if HIGH in self.search:
            kind, values = space_parts(self.search[HIGH])
            candidates = values if kind in LISTED else [config[low], values[1]]
            fitting = [value for value in candidates if value >= config[low]]
            config[high] = min(fitting, default=max(values))

        # The upper bound may be fixed, or its space may end under the lower bound.
        if LOW in self.search:
            config[low] = min(config[low], config[high])
        else:
            config[high] = max(config[low], config[high])
