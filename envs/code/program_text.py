"""The program in a response: its last fenced block."""

from __future__ import annotations

import re

# The line that opens a block, with the language; and the line that closes it.
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([^\s`]*)[^\n`]*$", re.MULTILINE)
_PYTHON = frozenset({"python", "python3", "py", "py3"})


def last_program(response: str) -> str | None:
    """Returns the last fenced block in Python, or else the last one that names no language.

    A block that is not closed does not count: the response was cut off in it. None if there is
    none.
    """
    python, unnamed = None, None
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(response):
        if opened is None:
            opened = fence
            continue
        is_close = fence[1][0] == opened[1][0] and len(fence[1]) >= len(opened[1]) and not fence[2]
        if not is_close:
            continue
        block = response[opened.end() + 1 : fence.start()]
        if opened[2].casefold() in _PYTHON:
            python = block
        elif not opened[2]:
            unnamed = block
        opened = None
    return unnamed if python is None else python
