"""The two clip bounds searched for together: no trial is drawn whose epsilon_high is under its epsilon_low.

Drawn on their own, some pairs would be inadmissible, and `DAPOConfig` would refuse their trials one
by one. So of two grids the inadmissible pairs are left out; in every other case one bound is drawn
as its space says, and the other one from what its own space has left on the right side of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ray import tune
from ray.tune.search.sample import Domain

from rllib_dapo.config.kinds import attribute_of
from rllib_dapo.findings import SettingsError

LOW, HIGH = "training.epsilon_low", "training.epsilon_high"
# An attribute of `DAPOConfig` that holds what Tune drew for both: the pair's name, or a number in
# [0, 1).
DRAW = "epsilon_draw"
Space = Mapping[str, Any]


def attribute_path(name: str) -> tuple[str, ...]:
    """Where Tune finds a setting: the attribute of `DAPOConfig`, and keys below it.

    Args:
        name: Dotted, such as `environment.env_config.max_operand`.
    """
    section, key, *inner = name.split(".")
    return (attribute_of(f"{section}.{key}"), *inner)


def check_bounds(search: Mapping[str, Space], source: str) -> None:
    """Refuses spaces of the two bounds of which one has no partner for the other.

    Args:
        search: The section `search`.
        source: Where it stands, for the message.

    Raises:
        SettingsError: One line.
    """
    if not _are_joint(search):
        return
    (low_kind, lows), (high_kind, highs) = _parts(search[LOW]), _parts(search[HIGH])
    if high_kind == "grid" and low_kind != "grid":
        bad, side = min(lows) > min(highs), f"under all of search.{LOW}"
        value = min(highs)
    else:
        bad, side = (
            max(lows) > max(highs) or min(lows) > max(highs),
            f"under the end of search.{LOW}",
        )
        value = max(highs)
    if low_kind == high_kind == "grid":
        bad = not _pairs(lows, highs)
        side = f"under all of search.{LOW}"
    if bad:
        raise SettingsError(
            f"{source}: search.{HIGH}: {value} is {side}={dict(search[LOW])}: epsilon_high must not be under "
            "epsilon_low, so move one of the two spaces"
        )


def join_bounds(search: Mapping[str, Space]) -> dict[str, Any]:
    """Attributes that stand for the two bounds in Tune's configuration, where they depend on each other.

    Args:
        search: The section `search`, checked by `check_bounds`.

    Returns:
        By attribute of `DAPOConfig`, what Tune is to draw; empty where every pair is admissible as
        it is.
    """
    if not _are_joint(search):
        return {}
    (low_kind, lows), (high_kind, highs) = _parts(search[LOW]), _parts(search[HIGH])
    if max(lows) <= min(highs):
        return {}
    low, high = attribute_of(LOW), attribute_of(HIGH)
    if low_kind == high_kind == "grid":
        pairs = {f"{a:g} {b:g}": (a, b) for a, b in _pairs(lows, highs)}
        return {
            DRAW: tune.grid_search(list(pairs)),
            low: tune.sample_from(OfPair({name: pair[0] for name, pair in pairs.items()})),
            high: tune.sample_from(OfPair({name: pair[1] for name, pair in pairs.items()})),
        }
    if high_kind == "grid":
        return {DRAW: tune.uniform(0.0, 1.0), low: tune.sample_from(NotOver(search[LOW], high))}
    return {DRAW: tune.uniform(0.0, 1.0), high: tune.sample_from(NotUnder(search[HIGH], low))}


def admissible(values: Mapping[str, Any], search: Mapping[str, Space]) -> dict[str, Any]:
    """Values of searched settings, with an upper bound that suits the lower one.

    Args:
        values: By dotted name, one of each space.
        search: The spaces.
    """
    if _are_joint(search) and values[LOW] > values[HIGH]:
        _, lows = _parts(search[LOW])
        _, highs = _parts(search[HIGH])
        low = values[LOW] if values[LOW] <= max(highs) else min(lows)
        return {**values, LOW: low, HIGH: max(highs)}
    return dict(values)


def admissible_range(space: Space, *, at_least: float) -> dict[str, Any]:
    """What is left of a space from a value on."""
    kind, values = _parts(space)
    if kind in ("grid", "choice"):
        return {kind: [value for value in values if value >= at_least]}
    return {kind: [max(values[0], at_least), values[1]]}


@dataclass(frozen=True, slots=True)
class OfPair:
    """A bound as a function of the pair that Tune drew."""

    values: Mapping[str, float]

    def __call__(self, spec: Mapping[str, Any]) -> float:
        """What Tune asks when it has drawn the pair."""
        return self.values[spec["config"][DRAW]]


@dataclass(frozen=True, slots=True)
class NotUnder:
    """A bound drawn from what its space has left from another bound on."""

    space: Space
    other: str

    def __call__(self, spec: Mapping[str, Any]) -> float:
        """What Tune asks when it has drawn the other bound and a number in [0, 1)."""
        left = admissible_range(self.space, at_least=spec["config"][self.other])
        return quantile(left, spec["config"][DRAW])


@dataclass(frozen=True, slots=True)
class NotOver:
    """A bound drawn from what its space has left up to another bound."""

    space: Space
    other: str

    def __call__(self, spec: Mapping[str, Any]) -> float:
        """What Tune asks when it has drawn the other bound and a number in [0, 1)."""
        kind, values = _parts(self.space)
        most = spec["config"][self.other]
        left = (
            [v for v in values if v <= most]
            if kind == "choice"
            else [values[0], min(values[1], most)]
        )
        return quantile({kind: left}, spec["config"][DRAW])


def quantile(space: Space, share: float) -> float:
    """The value of a space under which a share of its probability lies.

    Args:
        space: Not empty; both ends may be the same.
        share: In [0, 1).
    """
    kind, values = _parts(space)
    if kind in ("grid", "choice"):
        return float(values[int(share * len(values))])
    low, high = values
    if kind == "loguniform":
        return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    return float(low + share * (high - low))


@dataclass(frozen=True, slots=True)
class Mutations:
    """What population based training may do to a configuration, and what it must not.

    Attributes:
        search: Dotted names and their spaces.
    """

    search: Mapping[str, Space]

    def distributions(self) -> dict[str, Any]:
        """By attribute, what a value is drawn anew from: a list of values, or one of Tune's distributions."""
        tree: dict[str, Any] = {}
        for name, space in self.search.items():
            kind, values = _parts(space)
            drawn: list[Any] | Domain = list(values)
            if kind in ("uniform", "loguniform"):
                drawn = getattr(tune, kind)(*values)
            *outer, last = attribute_path(name)
            branch = tree
            for key in outer:
                branch = branch.setdefault(key, {})
            branch[last] = drawn
        return tree

    def __call__(self, config: dict[str, Any]) -> dict[str, Any]:
        """Takes back what a perturbation did too much: each value into its space, the upper bound over the lower."""
        for name, space in self.search.items():
            kind, values = _parts(space)
            *outer, last = attribute_path(name)
            branch = config
            for key in outer:
                branch = branch[key]
            if kind in ("uniform", "loguniform"):
                branch[last] = min(max(branch[last], values[0]), values[1])
        self._reconcile(config)
        return config

    def _reconcile(self, config: dict[str, Any]) -> None:
        """Moves the upper bound over the lower one; where it may not or cannot move, the lower one under it."""
        low, high = attribute_of(LOW), attribute_of(HIGH)
        if not {LOW, HIGH} & set(self.search) or config[low] <= config[high]:
            return
        if HIGH in self.search:
            kind, values = _parts(self.search[HIGH])
            ends = values if kind in ("grid", "choice") else [config[low], values[1]]
            fitting = [value for value in ends if value >= config[low]]
            config[high] = min(fitting, default=max(values))
        if LOW in self.search:
            config[low] = min(config[low], config[high])
        else:
            config[high] = max(config[low], config[high])


def _are_joint(search: Mapping[str, Space]) -> bool:
    """Whether both bounds are searched for, in numbers. What is no number is refused with the other values."""
    spaces = [search[name] for name in (LOW, HIGH) if name in search]
    return len(spaces) == 2 and all(
        isinstance(value, Real) for space in spaces for value in _parts(space)[1]
    )


def _parts(space: Space) -> tuple[str, list[Any]]:
    return next(iter(space.items()))


def _pairs(lows: list[float], highs: list[float]) -> list[tuple[float, float]]:
    return [(low, high) for low in lows for high in highs if low <= high]
