"""The columns of a row as they are carried to a reward: what JSON can hold, and nothing else."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from typing import Any

from rllib_dapo.envs.problem_text import well_formed


def carried(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row's columns in a form that can be sent to a process, or over a network.

    Texts, whole numbers, bools, lists, mappings and None stay what they are. Numbers that JSON does
    not know (NaN and the infinities) are None. Dates and times are texts as ISO 8601 has them, time
    spans are seconds, bytes are base64, and anything else is its text. What is not a character is
    replaced in texts, see `well_formed`.
    """
    return {well_formed(str(name)): _plain(value) for name, value in row.items()}


def distinct(names: Iterable[str]) -> list[str]:
    """Returns the names of columns, in which one that comes again is numbered: `x`, `x#2`."""
    result: list[str] = []
    for name in names:
        again, number = name, 1
        while again in result:
            number += 1
            again = f"{name}#{number}"
        result.append(again)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        return carried(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "dtype"):
        # Of NumPy's float32 the digits that it was written with, not those of a double.
        return _plain(float(str(value)) if value.dtype.kind == "f" else value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return well_formed(str(value))
