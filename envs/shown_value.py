"""Values of any kind as messages show them."""

from __future__ import annotations

from typing import Any

_SHOWN_CHARACTERS = 80


def shown(value: Any) -> str:
    """Returns a value as Python writes it, in one line, shortened if it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a user's object may not be able to tell
        return f"an object of the kind {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."
