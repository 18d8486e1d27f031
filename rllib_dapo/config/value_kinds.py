"""Whether a value is of the kind that an annotation names, such as a number or a choice."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin

from rllib_dapo.config.setting import NotText
from rllib_dapo.findings import suggest


def misfit(value: Any, annotation: Any) -> str | None:
    """What a value must be, or None where it is that already.

    Args:
        value: A value from Python or from a YAML file, where a pair is a list.
        annotation: `bool`, `int`, `float`, `str`, a `Literal`, a `tuple`, a mapping or a callable,
            or a union of these. Anything else fits every value.

    Returns:
        A phrase that completes "... must be", such as "a whole number".
    """
    wanted = [phrase for part in _alternatives(annotation) if (phrase := _misfit(value, part))]
    if len(wanted) < len(_alternatives(annotation)):
        return None

    # None is a way to switch a setting off; a wrong value is told what a right one is.
    named = [phrase for phrase in wanted if phrase != "null"]
    return " or ".join(dict.fromkeys(named)) or "null"


def choices(annotation: Any) -> tuple[str, ...]:
    """The words that an annotation allows, none where it allows other values too."""
    parts = [part for part in _alternatives(annotation) if part is not type(None)]
    if not parts or any(get_origin(part) is not Literal for part in parts):
        return ()
    return tuple(word for part in parts for word in get_args(part))


def takes_list(annotation: Any) -> bool:
    """Whether a list may be one value of a setting, rather than several values."""
    return any(get_origin(part) in (tuple, list) for part in _alternatives(annotation))


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    is_union = get_origin(annotation) in (Union, types.UnionType)
    return get_args(annotation) if is_union else (annotation,)


def _misfit(value: Any, annotation: Any) -> str | None:
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        words = get_args(annotation)
        if value in words and not isinstance(value, bool):
            return None
        near = suggest(value, words) if isinstance(value, str) else ""
        return (words[0] if len(words) == 1 else f"one of {', '.join(map(str, words))}") + near
    if origin is tuple:
        parts = get_args(annotation)
        fits = isinstance(value, list | tuple) and len(value) == len(parts)
        if fits and all(misfit(*pair) is None for pair in zip(value, parts, strict=True)):
            return None
        return "two numbers" if parts == (float, float) else f"a list of {len(parts)} values"
    if origin in _KINDS:
        fits_kind, phrase = _KINDS[origin]
        return None if fits_kind(value) else phrase
    return None


def _is_number(value: Any) -> bool:
    # To Python, True is a number.
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


_KINDS: Mapping[Any, tuple[Callable[[Any], bool], str]] = {
    type(None): (lambda value: value is None, "null"),
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (
        lambda value: isinstance(value, Integral) and not isinstance(value, bool),
        "a whole number",
    ),
    float: (_is_number, "a number"),
    str: (lambda value: isinstance(value, str), "text"),
    dict: (lambda value: isinstance(value, Mapping), "settings, such as {name: value}"),
    Callable: (callable, "a function"),
    NotText: (lambda value: not isinstance(value, str), "a number, or what RLlib documents"),
}
