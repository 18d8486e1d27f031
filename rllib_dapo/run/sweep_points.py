"""Which trials of a sweep belong together: those whose settings differ in nothing but the seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rllib_dapo.run.best_trial import last_value
from rllib_dapo.run.derived_settings import is_derived
from rllib_dapo.run.search.race_milestones import dropped_at

SEED = "seed"


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTrial:
    """What a comparison needs of a trial.

    Attributes:
        config: Settings by attribute of `DAPOConfig`, nested names joined by slashes; empty where
            they are not known.
        frame: Its results, one row per iteration; None if there are none.
        is_over: Whether it has ended without an error. Only such trials are compared.
        stop_reason: Why it ended, as its last result says.
    """

    config: Mapping[str, Any]
    frame: pd.DataFrame | None
    is_over: bool
    stop_reason: str = ""

    @property
    def seed(self) -> str:
        """Its seed, as text."""
        return str(self.config.get(SEED))

    @property
    def dropped_at(self) -> int | None:
        """Iteration at which a race dropped it; None if none did."""
        return dropped_at(self.stop_reason)

    def value(self, metric: str, *, iteration: int | None = None) -> float | None:
        """The last finite value of a metric, up to an iteration; None without one."""
        frame = self.frame
        if not self.is_over or frame is None:
            return None
        if iteration is not None:
            frame = frame[frame["training_iteration"] <= iteration]
        return last_value(frame, metric)


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPoint:
    """Trials with the same settings but for the seed.

    Attributes:
        settings: The settings in which points differ.
        trials: Places of its trials in the sweep.
    """

    settings: Mapping[str, Any]
    trials: tuple[int, ...]


def varied_names(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Settings that differ between configurations, but for the seed and what follows from others.

    Args:
        configs: Settings of each trial; empty ones are left out.
    """
    known = [config for config in configs if config]
    names = dict.fromkeys(name for config in known for name in config)
    return [
        name
        for name in names
        if name != SEED
        and not is_derived(name)
        and len({_setting_key(config.get(name)) for config in known}) > 1
    ]


def points_of(trials: Sequence[SweepTrial]) -> list[SweepPoint]:
    """Puts trials together, in the order of their first ones.

    A trial whose settings are not known belongs to no point.
    """
    names = varied_names([trial.config for trial in trials])
    places: dict[tuple[str, ...], list[int]] = {}
    for place, trial in enumerate(trials):
        if trial.config:
            key = tuple(_setting_key(trial.config.get(name)) for name in names)
            places.setdefault(key, []).append(place)
    return [
        SweepPoint(
            settings={name: trials[of_point[0]].config.get(name) for name in names},
            trials=tuple(of_point),
        )
        for of_point in places.values()
    ]


def _setting_key(value: Any) -> str:
    """The text by which values are compared; that of an object itself may hold its address."""
    if value is None or isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_setting_key, value))}]"
    return value.__qualname__ if isinstance(value, type) else type(value).__qualname__
