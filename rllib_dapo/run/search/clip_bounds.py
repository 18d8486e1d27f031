"""The two clip bounds, searched for together: no trial gets an epsilon_high under its epsilon_low.

Drawn independently, some pairs would be inadmissible: `DAPOConfig` would refuse their trials one by
one, and a searcher would learn from the refusals. So of two grids the inadmissible pairs are left
out. In all other cases one bound is drawn as its space says, and the other one from the part of its
own space that is on the right side of the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ray import tune

from rllib_dapo.findings import SettingsError
from rllib_dapo.run.search.search_spaces import (
    Space,
    attribute_path,
    drawn_value,
    quantile,
    space_from,
    space_parts,
    space_up_to,
)

LOW, HIGH = "training.epsilon_low", "training.epsilon_high"
# Attribute of `DAPOConfig` that holds what Tune drew for both bounds: the name of a pair, or a
# number in [0, 1).
DRAW = "epsilon_draw"


def check_bounds(search: Mapping[str, Space], source: str) -> None:
    """Refuses spaces in which a value of one bound has no admissible partner.

    Args:
        search: Section `search` of a run file.
        source: Name of the file, for the message.

    Raises:
        SettingsError: If there is such a value; one line.
    """
    if not _are_joint(search):
        return
    (low_kind, lows), (high_kind, highs) = space_parts(search[LOW]), space_parts(search[HIGH])

    if low_kind == high_kind == "grid":
        # Only admissible pairs are tried, and one is enough.
        is_bad, value, side = not _pairs(lows, highs), max(highs), "all"
    elif high_kind == "grid":
        # Every upper bound of the grid is tried, so each needs a lower bound under it.
        is_bad, value, side = min(lows) > min(highs), min(highs), "all"
    else:
        # The lower bound is drawn freely, so its highest value needs an upper bound over it.
        is_bad, value, side = max(lows) > max(highs), max(highs), "the end"

    if is_bad:
        raise SettingsError(
            f"{source}: search.{HIGH}: {value} is under {side} of search.{LOW}="
            f"{dict(search[LOW])}: epsilon_high must not be under epsilon_low, so move one of the "
            "two spaces"
        )


def join_bounds(search: Mapping[str, Space]) -> dict[str, Any]:
    """What Tune is to draw for the two bounds, where they depend on each other.

    Args:
        search: Section `search` of a run file, checked by `check_bounds`.

    Returns:
        Search spaces by attribute of `DAPOConfig`; empty where every pair is admissible anyway.
    """
    if not _are_joint(search):
        return {}
    (low_kind, lows), (high_kind, highs) = space_parts(search[LOW]), space_parts(search[HIGH])
    if max(lows) <= min(highs):
        return {}

    (low,), (high,) = attribute_path(LOW), attribute_path(HIGH)
    if low_kind == high_kind == "grid":
        pairs = {f"{a:g} {b:g}": (a, b) for a, b in _pairs(lows, highs)}
        return {
            DRAW: tune.grid_search(list(pairs)),
            low: tune.sample_from(BoundOfPair({name: pair[0] for name, pair in pairs.items()})),
            high: tune.sample_from(BoundOfPair({name: pair[1] for name, pair in pairs.items()})),
        }
    if high_kind == "grid":  # all of whose points are tried, so the other bound follows
        return {DRAW: tune.uniform(0.0, 1.0), low: tune.sample_from(LowerBound(search[LOW], high))}
    return {DRAW: tune.uniform(0.0, 1.0), high: tune.sample_from(UpperBound(search[HIGH], low))}


def admissible(values: Mapping[str, Any], search: Mapping[str, Space]) -> dict[str, Any]:
    """Replaces an upper bound that is under the lower one by one that is not.

    Args:
        values: One value of each searched setting, by dotted name.
        search: Section `search` of a run file.
    """
    if not _are_joint(search) or values[LOW] <= values[HIGH]:
        return dict(values)
    _, lows = space_parts(search[LOW])
    _, highs = space_parts(search[HIGH])
    low = values[LOW] if values[LOW] <= max(highs) else min(lows)
    return {**values, LOW: low, HIGH: max(highs)}


@dataclass(frozen=True, slots=True)
class BoundOfPair:
    """A bound as a function of the pair that Tune drew.

    Attributes:
        values: The bound, by the name of the pair.
    """

    values: Mapping[str, float]

    def __call__(self, spec: Mapping[str, Any]) -> float:
        """Tune calls this when it has drawn the pair."""
        return self.values[drawn_value(spec, DRAW)]


@dataclass(frozen=True, slots=True)
class UpperBound:
    """An upper bound, drawn from the part of its space that is not under the lower one.

    Attributes:
        space: The bound's own space.
        lower: Attribute that holds the lower bound.
    """

    space: Space
    lower: str

    def __call__(self, spec: Mapping[str, Any]) -> float:
        """Tune calls this when it has drawn the lower bound and a number in [0, 1)."""
        space = space_from(self.space, drawn_value(spec, self.lower))
        return quantile(space, drawn_value(spec, DRAW))


@dataclass(frozen=True, slots=True)
class LowerBound:
    """A lower bound, drawn from the part of its space that is not over the upper one.

    Attributes:
        space: The bound's own space.
        upper: Attribute that holds the upper bound.
    """

    space: Space
    upper: str

    def __call__(self, spec: Mapping[str, Any]) -> float:
        """Tune calls this when it has drawn the upper bound and a number in [0, 1)."""
        space = space_up_to(self.space, drawn_value(spec, self.upper))
        return quantile(space, drawn_value(spec, DRAW))


def _are_joint(search: Mapping[str, Space]) -> bool:
    """Whether both bounds are searched for, in numbers; other values are refused elsewhere."""
    spaces = [search[name] for name in (LOW, HIGH) if name in search]
    return len(spaces) == 2 and all(
        isinstance(value, Real) for space in spaces for value in space_parts(space)[1]
    )


def _pairs(lows: list[float], highs: list[float]) -> list[tuple[float, float]]:
    """The admissible pairs of two grids."""
    return [(low, high) for low in lows for high in highs if low <= high]
