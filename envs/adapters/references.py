"""Objects given by their name, as a run file has to give them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def resolve_reference(setting: str, value: Any) -> Any:
    """Returns what `package.module:name` stands for.

    Anything but a text is returned as it is.

    Args:
        setting: Name of the setting that holds the value, for messages.
        value: A text, or the object itself.

    Raises:
        ValueError: If the module cannot be imported or has no such name.
    """
    if not isinstance(value, str):
        return value
    module_name, colon, name = value.partition(":")
    if not colon or not module_name or not name:
        raise ValueError(f"{setting}={value!r}: must be written package.module:name")

    # A console script does not look in the current folder, but Ray's workers do.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))

    # Importing a user's module may raise anything, and one line that names the setting is better
    # than a traceback.
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        told = " ".join(str(error).split())
        raise ValueError(
            f"{setting}={value!r}: module {module_name} cannot be imported: "
            f"{type(error).__name__}: {told}"
        ) from error

    if not hasattr(module, name):
        raise ValueError(f"{setting}={value!r}: module {module_name} has no {name!r}")
    return getattr(module, name)
