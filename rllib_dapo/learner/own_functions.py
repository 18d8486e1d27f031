"""A user's own function: found by its name, called, and refused in one line where it fails."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rllib_dapo.envs.adapters.references import resolve_reference


def resolve_function(setting: str, value: Any) -> Callable[..., Any]:
    """The function itself, or the one that `package.module:function` names.

    Args:
        setting: Dotted name of the setting, for messages.
        value: What it was set to.

    Raises:
        ValueError: If there is no such function, or it cannot be called by names; one line.
    """
    found = resolve_reference(setting, value)
    if not callable(found):
        raise ValueError(f"{setting}={value!r} is {found!r:.80}, which is not a function")
    try:
        inspect.signature(found)
    except (TypeError, ValueError):
        raise ValueError(
            f"{setting}={value!r} does not say which arguments it takes: wrap it in a function"
        ) from None
    return found


def call_own(where: str, function: Callable[..., Any], **arguments: Any) -> Any:
    """Calls a user's function, which may raise anything.

    Args:
        where: The setting and its value, for messages.
        function: The function.
        **arguments: Its arguments.

    Raises:
        ValueError: If it raises; one line, with the error as its cause.
    """
    try:
        return function(**arguments)
    except Exception as error:
        told = " ".join(str(error).split())
        raise ValueError(f"{where} raised {type(error).__name__}: {told}") from error
