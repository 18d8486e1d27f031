"""How much of the differences between trials goes with each setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_MOST_GROUPS = 4  # into which many different numbers are put
_FEWEST_TRIALS = 3


def setting_importance(
    settings: Mapping[str, Sequence[Any]], outcome: Sequence[float | None]
) -> list[dict[str, Any]]:
    """The share of an outcome's variance between the values of each setting, taken one at a time.

    It is the sum of squares between groups over the whole sum of squares (eta squared): 1 if trials
    with the same value of the setting all came out alike, 0 if the groups have the same mean. It
    says nothing of settings that act only together, and settings that were varied together share
    the credit. Chance alone gives a share of `(groups - 1) / (trials - 1)` on average, which is a
    lot where trials are few.

    Args:
        settings: The values of each varied setting, one for each trial.
        outcome: What came out of each trial; None for a trial without.

    Returns:
        For each setting that can be judged its `setting`, `share`, the share `by_chance`, the
        number of `groups` that its values make, of `trials`, and whether numbers were put together
        into `ranges`. The largest share comes first. Nothing where trials are fewer than three, or
        all came out alike.
    """
    known = [place for place, value in enumerate(outcome) if value is not None]
    values = np.array([outcome[place] for place in known], dtype=float)
    total = float(((values - values.mean()) ** 2).sum()) if len(values) else 0.0
    if len(known) < _FEWEST_TRIALS or total <= 0:
        return []

    found = []
    for name, of_all in settings.items():
        groups, are_ranges = _groups([of_all[place] for place in known])
        if not 1 < len(set(groups)) < len(known):
            continue  # each trial a group of its own explains everything, and says nothing
        labels = np.array(groups)
        members = [values[labels == group] for group in set(groups)]
        between = sum(len(group) * (group.mean() - values.mean()) ** 2 for group in members)
        found.append(
            {
                "setting": name,
                "share": round(float(between / total), 4),
                "by_chance": round((len(members) - 1) / (len(known) - 1), 4),
                "groups": len(members),
                "trials": len(known),
                "ranges": are_ranges,
            }
        )
    return sorted(found, key=lambda row: -row["share"])


def _groups(values: Sequence[Any]) -> tuple[list[int], bool]:
    """Numbers the groups that values make: equal ones, or ranges with equally many numbers."""
    distinct = sorted(set(values), key=str)
    are_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    # With at least two trials to most values, each value is a group.
    if not are_numbers or 2 * len(distinct) <= len(values):
        return [distinct.index(value) for value in values], False

    numbers = np.array(values, dtype=float)
    num_groups = min(_MOST_GROUPS, max(2, len(values) // 3))
    edges = np.quantile(numbers, np.linspace(0, 1, num_groups + 1)[1:-1])
    return [int(place) for place in np.searchsorted(edges, numbers, side="left")], True
