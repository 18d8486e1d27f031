"""How findings on settings are worded: one line with the setting, its value and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any


class SettingsError(ValueError):
    """The reason why a run cannot start, in one line."""


def one_line(error: BaseException) -> str:
    """An error's message without line breaks, or its class's name where it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def suggest(name: str, known: Any) -> str:
    """`"; did you mean 'x'?"` where something known is near, else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def one_of(setting: str, value: Any, allowed: tuple[str, ...]) -> Iterator[str]:
    """A finding where a value is not one of a few words."""
    if value not in allowed:
        near = suggest(str(value), allowed)
        yield f"{setting}={value!r} must be one of {', '.join(allowed)}{near}"


def at_least(setting: str, value: float, least: float, why: str = "") -> Iterator[str]:
    """A finding where a number is too small."""
    if value < least:
        yield f"{setting}={value} must be at least {least}{': ' + why if why else ''}"


def within(setting: str, value: float, interval: str, why: str = "") -> Iterator[str]:
    """A finding where a number lies outside an interval.

    Args:
        setting: Dotted name of the setting.
        value: Value of the setting.
        interval: An interval such as `(0, 1]`. A round bracket leaves the bound out, a square one
            takes it in.
        why: Reason to add behind the interval.
    """
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    over = value > low if interval.startswith("(") else value >= low
    under = value < high if interval.endswith(")") else value <= high
    if not (over and under):
        yield f"{setting}={value} must lie in {interval}{': ' + why if why else ''}"
