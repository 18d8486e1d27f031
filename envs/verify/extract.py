r"""The final answer in a response: its last `\boxed{...}` or `Answer: ...`.

Whichever of the two comes later counts.
"""

from __future__ import annotations

import re
from typing import NamedTuple

TAIL = 2_000  # characters looked at: a final answer is at the end
ANSWER_LINE = re.compile(r"Answer\s*:\s*([^\n]+)", re.IGNORECASE)
_BRACES = re.compile(r"\\\\|\\boxed\s*\{|\\[{}]|[{}]")


class Box(NamedTuple):
    """The inside of a box, and where the box begins."""

    start: int
    text: str


def last_box(text: str) -> Box | None:
    r"""Returns the `\boxed{...}` that begins last among those whose braces balance.

    `\{` and `\}` do not count as braces. The time taken is proportional to the length of the text.
    """
    found: Box | None = None
    opened: list[re.Match[str]] = []

    for token in _BRACES.finditer(text):
        if token[0].endswith("{") and token[0] != r"\{":
            opened.append(token)
        elif token[0] == "}" and opened:
            opening = opened.pop()
            if len(opening[0]) > 1 and (found is None or opening.start() > found.start):
                found = Box(opening.start(), text[opening.end() : token.start()])
    return found


def last_answer(response: str) -> str | None:
    r"""Returns the final answer as it was written.

    None if the last 2,000 characters hold neither form.
    """
    tail = response[-TAIL:]
    box, line = last_box(tail), None
    for line in ANSWER_LINE.finditer(tail):  # noqa: B007 (the last one is wanted)
        pass

    if line is not None and (box is None or line.start() > box.start):
        return line[1]
    return None if box is None else box.text


def is_balanced(text: str) -> bool:
    r"""Whether every brace has its partner; `\{` and `\}` do not count."""
    depth = 0
    for token in _BRACES.findall(text):
        depth += token.endswith("{") and token != r"\{"
        depth -= token == "}"
        if depth < 0:
            return False
    return depth == 0
