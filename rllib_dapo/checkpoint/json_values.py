"""Settings as JSON: what can be written as it is, by name, or not at all."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Stands for a class or function: `{"$name": "module:name"}`.
NAME_KEY = "$name"

# A checkpoint is copied and published, and what it says must not open anybody's account.
_SECRET_NAME = re.compile(
    r"(^|[_-])(api_?key|access_?key|secret|pass(word|wd|phrase)?|token|credentials?|auth(orization)?)$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"://[^/@\s]*:[^/@\s]+@")
_NOTHING = object()


def as_json(settings: Mapping[str, Any], prefix: str, left_out: dict[str, str]) -> dict[str, Any]:
    """Settings as values that JSON gives back as they were.

    Args:
        settings: Values by name, at any depth. Paths become texts and tuples lists; a class or a
            function becomes its name where it can be imported by that.
        prefix: Put before the names in `left_out`.
        left_out: Reasons by dotted name; extended with what cannot be written, and with secrets.
    """
    kept = {}
    for name, value in settings.items():
        dotted = f"{prefix}{name}"
        if not isinstance(name, str):
            left_out[dotted] = f"its key {name!r} is not a text"
            continue

        written = _written(value, dotted, left_out)
        if written is not _NOTHING:
            kept[name] = written
    return kept


def import_name(value: Any) -> str | None:
    """`module:name` of a class or function, None where that would not find it again."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return None
    return f"{module}:{name}" if getattr(sys.modules.get(module), name, None) is value else None


def what_it_is(value: Any) -> str:
    """What a class, a function or any other value is, in a few words."""
    name = getattr(value, "__qualname__", "")
    if isinstance(value, type):
        return f"the class {name} of {value.__module__}"
    if callable(value) and name:
        kind = "a lambda" if "<lambda>" in name else f"the function {name}"
        return f"{kind} of {value.__module__}"
    return f"a {type(value).__name__}"


def _written(value: Any, dotted: str, left_out: dict[str, str]) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if _is_secret(dotted, value):
        left_out[dotted] = "a secret"
        return _NOTHING

    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | float | np.integer | np.floating | np.bool_):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return as_json(value, f"{dotted}.", left_out)
    if isinstance(value, list | tuple):
        return _written_list(value, dotted, left_out)

    name = import_name(value)
    if name is not None:
        return {NAME_KEY: name}
    left_out[dotted] = what_it_is(value)
    return _NOTHING


def _written_list(
    values: list[Any] | tuple[Any, ...], dotted: str, left_out: dict[str, str]
) -> Any:
    """All of a list, or nothing: without one of its items it would be another list."""
    lost: dict[str, str] = {}
    written = [_written(value, f"{dotted}.{place}", lost) for place, value in enumerate(values)]
    if lost:
        left_out[dotted] = f"a list with {next(iter(lost.values()))}"
        return _NOTHING
    return written


def _is_secret(dotted: str, value: Any) -> bool:
    name = dotted.rpartition(".")[2]
    if not isinstance(value, str):
        return False
    return bool(value) and bool(_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))
