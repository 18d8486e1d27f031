"""Commands as text that can be pasted into a shell, whatever stands in their paths."""

from __future__ import annotations

import shlex
from pathlib import Path


def pasteable(*words: str | Path) -> str:
    """Joins the words of a command, each quoted where a shell would read it otherwise.

    Args:
        *words: Program, options and values, a word each, as the program is to get them.
    """
    return shlex.join(map(str, words))
