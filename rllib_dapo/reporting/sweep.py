"""What a sweep varied."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rllib_dapo.reporting.read import Trial

BOUNDS = ("epsilon_low", "epsilon_high")
# These follow from other settings.
_DERIVED = (
    "_",
    "epsilon_draw",
    "evaluation_config/_",
    "policies/",
    "simple_optimizer",
    "torch_compile_",
)


def varied_settings(trials: Sequence[Trial]) -> list[str]:
    """Settings that differ between trials: the bounds first, as far as they do."""
    configs = [trial.config for trial in trials if trial.config]
    names = {name: None for config in configs for name in config if not name.startswith(_DERIVED)}
    varied = [
        name for name in names if len({plain_text(config.get(name)) for config in configs}) > 1
    ]
    return sorted(
        varied, key=lambda name: (BOUNDS.index(name) if name in BOUNDS else len(BOUNDS), name)
    )


def plain(value: Any) -> str | int | float | bool | None:
    """A setting as JSON has it: numbers, words and switches as they are, all else as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)


def plain_text(value: Any) -> str:
    """The same as text, by which settings are compared."""
    return str(plain(value))


def settings_of(trials: Sequence[Trial], defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every setting that was changed or varied, and then all others.

    Args:
        trials: Of one run.
        defaults: The configuration without any changes, names with slashes.

    Returns:
        Of each setting its `name`, its `value` (of a varied one all values), `default`,
        `is_changed` and `is_varied`.
    """
    configs = [trial.config for trial in trials if trial.config]
    if not configs:
        return []
    varied = set(varied_settings(trials))
    names = {name: None for config in configs for name in config if not name.startswith(_DERIVED)}
    rows = []
    for name in names:
        values = list(dict.fromkeys(plain_text(config.get(name)) for config in configs))
        default = plain_text(defaults[name]) if name in defaults else ""
        rows.append(
            {
                "name": name,
                "value": ", ".join(sorted(values, key=_as_number)),
                "default": default,
                "is_changed": values != [default],
                "is_varied": name in varied,
            }
        )
    return sorted(rows, key=lambda row: (not row["is_varied"], not row["is_changed"], row["name"]))


def _as_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return math.inf, text
