"""The marks between which models think aloud before they answer."""

from __future__ import annotations

from typing import Final

# An opening mark and its closing one, of all families that are known to have them.
THOUGHT_MARKS: Final = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)


def behind_thoughts(text: str) -> str:
    """Returns what a model says behind its thoughts; all of it where it does not end one.

    A template may have opened the thought already, so the closing mark alone counts.
    """
    for _, closing in THOUGHT_MARKS:
        text = text.rpartition(closing)[2]
    return text
