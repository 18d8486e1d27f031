"""What the trials of a run were configured with: which settings varied, and which were changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rllib_dapo.reporting.stored_run import StoredTrial
from rllib_dapo.run.derived_settings import is_derived

BOUNDS = ("epsilon_low", "epsilon_high")
_BUFFER = "overlong_buffer_tokens"


def varied_settings(trials: Sequence[StoredTrial]) -> list[str]:
    """Names of the settings that differ between trials, the clip bounds first, if they do."""
    configs = [trial.config for trial in trials if trial.config]
    varied = [name for name in _names(configs) if len(set(_texts(configs, name))) > 1]

    def place(name: str) -> tuple[int, str]:
        return (BOUNDS.index(name) if name in BOUNDS else len(BOUNDS)), name

    return sorted(varied, key=place)


def settings_table(
    trials: Sequence[StoredTrial], defaults: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Lists all settings: those that were varied first, then those that were changed.

    Args:
        trials: Trials of one run.
        defaults: The configuration without any changes, nested names joined by slashes.

    Returns:
        For each setting its `name`, `value` (of a varied setting all values), `default`,
        `is_changed` and `is_varied`.
    """
    configs = [trial.config for trial in trials if trial.config]
    if not configs:
        return []

    varied = set(varied_settings(trials))
    rows = []
    for name in _names(configs):
        values = _texts(configs, name)
        shown = ", ".join(sorted(values, key=_as_number))
        if name == _BUFFER and values == ["None"]:
            shown += "".join(f", which is {tokens}" for tokens in _resolved_buffers(trials))
        default = setting_text(defaults[name]) if name in defaults else ""
        rows.append(
            {
                "name": name,
                "value": shown,
                "default": default,
                "is_changed": values != [default],
                "is_varied": name in varied,
            }
        )
    return sorted(rows, key=lambda row: (not row["is_varied"], not row["is_changed"], row["name"]))


def json_setting(value: Any) -> str | int | float | bool | None:
    """A setting as JSON can hold it: numbers, words and switches as they are, all else as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)


def setting_text(value: Any) -> str:
    """The text by which two values of a setting are compared."""
    return str(json_setting(value))


def _names(configs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every setting that any configuration has, but those that follow from others."""
    return list(
        dict.fromkeys(name for config in configs for name in config if not is_derived(name))
    )


def _texts(configs: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    """The different values of a setting, as text, in the order of the configurations."""
    return list(dict.fromkeys(setting_text(config.get(name)) for config in configs))


def _resolved_buffers(trials: Iterable[StoredTrial]) -> list[str]:
    """The number that results give for a width that is not set, where they give one for all."""
    column = f"env_runners/{_BUFFER}"
    found = {n for t in trials if column in t.frame for n in t.frame[column].dropna()}
    return [f"{found.pop():g}"] if len(found) == 1 else []


def _as_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return math.inf, text
