"""An answer column's value as the ground truth: a short text, whatever kind the value is of."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from rllib_dapo.envs.normalize import unbox

# The last line of a worked solution, as MetaMathQA and its like end.
_LAST_WORDS = re.compile(
    r"(?:so |thus |therefore |hence )?,?\s*(?:the )?(?:final )?answer(?: is)?\s*:\s*(\S.*?)",
    re.IGNORECASE | re.DOTALL,
)
# Of what begins so, nothing may be cut off: no comment in it introduces an answer.
_PYTHON = re.compile(r"^[ \t]*(?:assert\b|def \w+\()", re.MULTILINE)
_LONGEST_JSON = 10_000  # characters of a text that may be a list of answers
_DATES = (datetime.date, datetime.time, datetime.timedelta)


class UnusableAnswerError(ValueError):
    """A value that no response can be compared with.

    Attributes:
        fields: Names of what is inside, where the value is a mapping: then the whole column is.
    """

    def __init__(self, message: str, *, fields: tuple[str, ...] = ()) -> None:
        """Tells what the value is.

        Args:
            message: What it is.
            fields: See above.
        """
        super().__init__(message)
        self.fields = fields


def final_answer(value: Any) -> str:
    r"""Returns the ground truth in an answer column's value; empty if there is none.

    Numbers are written out, without an exponent and without zeros behind the fraction (43.0 as
    `43`). Of a worked solution the part after the last `####` counts (GSM8K), or else the inside of
    the last `\boxed{}` (MATH), or else what follows `The answer is:` in its last line. A list with
    one element is that element, also where it is a text that holds such a list of texts as JSON.

    Raises:
        UnusableAnswerError: If the value holds several answers, or is of a kind that no response
            can be compared with, such as a mapping.
    """
    if isinstance(value, str):
        return _of_text(value)
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return _of_float(value)

    if isinstance(value, Decimal):
        return _of_decimal(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
        return final_answer(value)
    if isinstance(value, list | tuple):
        return _of_list(list(value))
    if isinstance(value, bytes):
        return _of_bytes(value)
    if isinstance(value, _DATES):
        return str(value)

    if isinstance(value, Mapping):
        fields = tuple(str(name) for name in value)
        if not fields:
            return ""
        raise UnusableAnswerError(
            f"the answer is a mapping with {', '.join(fields[:5])}", fields=fields
        )
    raise UnusableAnswerError(f"the answer is a {type(value).__name__}")


def answer_as_data(value: Any) -> str:
    """Returns an answer column's value for a function that reads it, in full.

    Lists and mappings become JSON, and tests in Python stay as they are; everything else is what
    `final_answer` makes of it.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, str) and (value.lstrip()[:1] in ("[", "{") or _PYTHON.search(value)):
        return value.strip()
    return final_answer(value)


def _of_text(text: str) -> str:
    if "####" in text:
        # GSM8K ends there; others add a sentence on a line of its own.
        return text.rpartition("####")[2].strip().partition("\n")[0].strip()
    if "boxed" in text and r"\boxed{" in text:
        return unbox(text).strip()

    text = text.strip()
    if text[:1] in "[{" and text[-1:] in "]}" and 1 < len(text) <= _LONGEST_JSON:
        return _of_json(text)
    if "nswer" in text:
        said = _LAST_WORDS.fullmatch(text.rpartition("\n")[2].strip())
        if said:
            return said[1].rstrip().removesuffix(".")
    return text


def _of_json(text: str) -> str:
    """Reads a list of texts; `[1, 2]` is an interval or a vector and stays what it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, dict):
        raise UnusableAnswerError("the answer is a text that holds a mapping")
    return _of_list(value) if value and all(isinstance(one, str) for one in value) else text


def _of_list(values: list[Any]) -> str:
    if len(values) == 1:
        return final_answer(values[0])

    answers = list(dict.fromkeys(final_answer(value) for value in values))
    if len(answers) > 1:
        raise UnusableAnswerError(f"the answer is a list of {len(values)}")
    return answers[0] if answers else ""


def _of_float(value: float | np.floating[Any]) -> str:
    if not np.isfinite(value):
        return ""
    # The shortest digits that give the number back, in the precision that it has.
    return "0" if value == 0 else np.format_float_positional(value, trim="-")


def _of_decimal(value: Decimal) -> str:
    if not value.is_finite():
        return ""
    text = format(value, "f")
    text = text.rstrip("0").removesuffix(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _of_bytes(value: bytes) -> str:
    try:
        return _of_text(value.decode())
    except UnicodeDecodeError:
        raise UnusableAnswerError("the answer is bytes that are not text") from None
