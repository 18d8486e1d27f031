"""Spans of time as a clock shows them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """`0:42`, `12:05`, `3:00:10`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
