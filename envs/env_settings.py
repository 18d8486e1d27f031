"""Checks of an environment's settings: a message names the setting, its value and the way out."""

from __future__ import annotations

import difflib
import math
import operator
import string
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def merge_settings(
    owner: str, defaults: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns `defaults` with what was `given` put over them.

    Args:
        owner: Name of what has these settings, for the message.
        defaults: Every known setting with its default.
        given: The settings that the user gave.

    Raises:
        ValueError: If a given name is unknown.
    """
    for name, value in given.items():
        if name not in defaults:
            guess = _did_you_mean(name, defaults) or "."
            raise ValueError(
                f"{owner}: unknown setting {name!r} (value {value!r}){guess} "
                f"Known settings: {', '.join(sorted(defaults))}"
            )
    return {**defaults, **given}


def check_integer(name: str, value: Any, *, low: int, high: int | None = None) -> int:
    """Returns `value` as an int in `[low, high]`.

    Raises:
        ValueError: If it is not a whole number or lies outside.
    """
    bounds = f"at least {low}" if high is None else f"from {low} to {high}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ValueError(f"{name}={value!r}: must be a whole number, {bounds}")
    number = operator.index(value)
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name}={value!r}: must be {bounds}")
    return number


def check_fraction(name: str, value: Any) -> float:
    """Returns `value` as a float in `[0, 1]`.

    Raises:
        ValueError: If it is not a number or lies outside.
    """
    if isinstance(value, bool) or not hasattr(value, "__float__") or not 0 <= float(value) <= 1:
        raise ValueError(f"{name}={value!r}: must be a number from 0 to 1")
    return float(value)


def check_choice(name: str, value: Any, known: Iterable[str]) -> str:
    """Returns `value` if it is one of the `known` ones.

    Raises:
        ValueError: If it is not.
    """
    names = list(known)
    if value in names:
        return str(value)
    raise ValueError(
        f"{name}={value!r}: must be one of {', '.join(names)}{_did_you_mean(value, names)}"
    )


def check_template(name: str, value: Any, field: str) -> str:
    """Returns `value` if it is a format string whose one replacement field is `{field}`.

    Raises:
        ValueError: If it is not; literal braces are written twice.
    """
    wanted = (
        f"must be a text with the field {{{field}}} exactly once; "
        "write other braces twice, as in {{x}}"
    )
    if not isinstance(value, str):
        raise ValueError(f"{name}={value!r}: {wanted}")
    try:
        parts = list(string.Formatter().parse(value))
    except ValueError as error:
        raise ValueError(f"{name}={value!r}: {wanted} ({error})") from None

    fields = [(key, spec, conversion) for _, key, spec, conversion in parts if key is not None]
    if fields != [(field, "", None)]:
        raise ValueError(f"{name}={value!r}: {wanted}")
    return value


def is_finite_number(value: Any) -> bool:
    """Whether `value` is a real number, other than NaN and the infinities; a bool is not one."""
    return (
        not isinstance(value, bool) and hasattr(value, "__float__") and math.isfinite(float(value))
    )


def _did_you_mean(name: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_address(name: str, value: Any, *, example: str) -> SplitResult:
    """Returns the parts of an address of a server over HTTP.

    Args:
        name: Name of the setting, for the message.
        value: What was given.
        example: An address as it should be.

    Raises:
        ValueError: If it is none; one line.
    """
    if isinstance(value, str):
        try:
            parts = urlsplit(value)
            if parts.scheme in ("http", "https") and parts.hostname:
                return parts
        except ValueError:  # brackets that hold no address
            pass
    raise ValueError(f"{name}={value!r}: must be an address such as {example}")
