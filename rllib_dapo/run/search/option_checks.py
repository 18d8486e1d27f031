"""The options of schedulers and searchers, checked before Ray sees them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any

from rllib_dapo.findings import one_of, suggest

# Returns what an option must be, or None if the value is right.
OptionCheck = Callable[[Any], str | None]


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; true and false are not."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def count(value: Any) -> str | None:
    """The check of an option that counts something."""
    fits = is_number(value) and value == int(value) and value >= 1
    return None if fits else "a whole number of at least 1"


def at_least_zero(value: Any) -> str | None:
    """The check of an option that may be any number from 0 on."""
    return None if is_number(value) and value >= 0 else "a number of at least 0"


def natural(value: Any) -> str | None:
    """The check of an option that is a whole number, 0 included."""
    fits = is_number(value) and value == int(value) and value >= 0
    return None if fits else "a whole number of at least 0"


def switch(value: Any) -> str | None:
    """The check of an option that is on or off."""
    return None if isinstance(value, bool) else "true or false"


def check_options(
    setting: str, content: Mapping[str, Any], options: Mapping[str, Mapping[str, OptionCheck]]
) -> Iterator[str]:
    """Findings on a type and its options.

    Args:
        setting: Dotted name of the setting, such as `tune.scheduler`.
        content: Value of the setting: `type`, and options of that type.
        options: For each type, the check of each of its options.

    Yields:
        One line for each finding.
    """
    kind = content.get("type")
    if kind is None:
        yield f"{setting} has no type: write {{type: {' | '.join(options)}, ...}}"
        return
    findings = list(one_of(f"{setting}.type", kind, tuple(options)))
    yield from findings
    if findings:
        return

    known = options[kind]
    for name, value in content.items():
        if name == "type":
            continue
        if name not in known:
            there = f"; {kind} has {', '.join(known)}" if known else f"; {kind} has none"
            yield f"unknown setting '{setting}.{name}'{suggest(name, known) or there}"
            continue
        wanted = known[name](value)
        if wanted:
            yield f"{setting}.{name}={value!r} must be {wanted}"
