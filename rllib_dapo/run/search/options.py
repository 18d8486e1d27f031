"""The options of schedulers and searchers, checked before Ray sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any

from rllib_dapo.findings import one_of, suggest

# What an option must be, or None where it is.
OptionCheck = Callable[[Any], str | None]


def is_number(value: Any) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def count(value: Any) -> str | None:
    """The check of an option that counts something."""
    fits = is_number(value) and value == int(value) and value >= 1
    return None if fits else "a whole number of at least 1"


def check_options(
    setting: str, content: Mapping[str, Any], options: Mapping[str, Mapping[str, OptionCheck]]
) -> Iterator[str]:
    """Findings on a type and its options.

    Args:
        setting: Such as `tune.scheduler`.
        content: What stands there.
        options: Of each type, the check of each option: what it must be, or None where it is.

    Yields:
        One line for each finding.
    """
    kind = content.get("type")
    if kind is None:
        yield f"{setting} says no type: write {{type: {' | '.join(options)}, ...}}"
        return
    wrong = list(one_of(f"{setting}.type", kind, tuple(options)))
    yield from wrong
    if wrong:
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
