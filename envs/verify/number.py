r"""Rules for answers that are numbers, compared as exact rationals or as integers.

Numbers of more than 100 digits, and numbers such as `1e9`, are read as equal to nothing: expanding
them is how a response would stop the scorer.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from rllib_dapo.envs.verify.extract import TAIL, last_answer
from rllib_dapo.envs.verify.verdict import Verdict

_WINDOW = 400  # a readable number, its commas and its denominator, with room to spare
_MAX_DIGITS = 100
_DIGITS = "0123456789"
_INTEGER_LENGTH = 64
_LONGEST_INTEGER = 300  # characters of a ground truth
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(
    r"""
    (?P<sign>(?<![\w)\]}])[-+])?                                # the minus of "10-3" is not a sign
    (?P<mantissa>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)
    (?P<exponent>e[-+]?[0-9]+)?
    (?:/(?P<denominator>[0-9]+))?
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_SUPERSCRIPT = re.compile(r"\^\{?[-+]?[0-9]+\}?")
_CURRENCY = str.maketrans("", "", "$€£¥₹")
_SHORT_FRAC = re.compile(r"(\\[dt]?frac)([0-9])([0-9])")
_FRAC = re.compile(r"([0-9]{1,18})?\\[dt]?frac\{([0-9]{1,18})\}\{([0-9]{1,18})\}")


class _Number(NamedTuple):
    value: Fraction
    is_decimal: bool


def last_number(response: str, answer: str) -> Verdict:
    r"""The last number of the response, compared with the ground truth as exact rationals.

    Knows signs, decimals, thousands commas, `3/4` and `\frac{3}{4}`; ignores currency and percent
    signs, and exponents such as the 2 of `m^2`.

    Args:
        response: The model's text; its last 2,000 characters count.
        answer: The ground truth; one that is not a number cannot be judged.
    """
    return _compare_last(response, answer, tolerance=0.0)


def numeric(response: str, answer: str, tolerance: float = 0.0) -> Verdict:
    r"""The last number of the last `\boxed{...}` or `Answer: ...`, or else of the whole response.

    Numbers are read as by `last_number` and compared exactly, unless one of the two is written with
    a decimal point and a tolerance is given.

    Args:
        response: The model's text; its last 2,000 characters count.
        answer: The ground truth; one that is not a number cannot be judged.
        tolerance: How far a decimal may be from the truth, as a share of it (absolute if the truth
            is below 1).
    """
    found = last_answer(response)
    return _compare_last(response if found is None else found, answer, tolerance=tolerance)


def exact_integer(response: str, answer: str) -> Verdict:
    """The whole response, except for white space around it, is the integer.

    Args:
        response: The model's text.
        answer: The ground truth; one that is not an integer cannot be judged.
    """
    if len(answer) > _LONGEST_INTEGER or not _INTEGER.fullmatch(answer):
        return Verdict(
            is_correct=None, reason=f"the ground truth {answer[:40]!r} is not an integer"
        )

    prediction = response.strip()
    # Apart from leading zeros a longer text cannot be the number, and very long ones are slow to
    # read.
    longest = max(_INTEGER_LENGTH, len(answer))
    if len(prediction) > longest or not _INTEGER.fullmatch(prediction):
        return Verdict(
            is_correct=False,
            prediction=prediction[:longest],
            reason="the response is not an integer",
        )

    value = int(prediction)
    return Verdict(is_correct=value == int(answer), prediction=str(value))


def _compare_last(text: str, answer: str, *, tolerance: float) -> Verdict:
    truth = _truth(answer)
    if truth is None:
        return Verdict(is_correct=None, reason=f"the ground truth {answer[:40]!r} is not a number")

    plain = _up_to_last_digit(_plain_numbers(_end(text, TAIL)))
    numbers = list(_NUMBER.finditer(_end(plain, _WINDOW)))
    if not numbers:
        return Verdict(is_correct=False, reason="no number in the response")

    number = _read(numbers[-1])
    if number is None:
        prediction = numbers[-1][0][:_MAX_DIGITS]
        return Verdict(
            is_correct=False, prediction=prediction, reason="the last number cannot be read"
        )
    return Verdict(is_correct=_are_equal(number, truth, tolerance), prediction=str(number.value))


def _are_equal(number: _Number, truth: _Number, tolerance: float) -> bool:
    if number.value == truth.value or not tolerance:
        return number.value == truth.value

    # What is written as a whole number or a fraction is meant exactly.
    allowed = Fraction(tolerance) * max(Fraction(1), abs(truth.value))
    return (number.is_decimal or truth.is_decimal) and abs(number.value - truth.value) <= allowed


@lru_cache(maxsize=4096)
def _truth(answer: str) -> _Number | None:
    match = _NUMBER.fullmatch(_plain_numbers(answer[:TAIL]).rstrip("%\\ .").strip())
    return _read(match) if match else None


def _end(text: str, length: int) -> str:
    """Returns the last `length` characters, without the rest of a number that was cut in two."""
    return text if len(text) <= length else text[-length:].lstrip(_DIGITS + ",.+-/eE")


def _up_to_last_digit(text: str) -> str:
    return text[: 1 + max(text.rfind(digit) for digit in _DIGITS)]


def _plain_numbers(text: str) -> str:
    """Rewrites the typesetting of numbers as plain text."""
    text = (
        text.replace("−", "-")
        .replace("{,}", ",")
        .replace(r",\!", ",")
        .replace(r"\$", "")
        .translate(_CURRENCY)
    )
    if "^" in text:
        text = _SUPERSCRIPT.sub("", text)
    if "frac" in text:
        text = _FRAC.sub(_plain_fraction, _SHORT_FRAC.sub(r"\1{\2}{\3}", text))
    return text


def _plain_fraction(match: re.Match[str]) -> str:
    whole, numerator, denominator = (int(part or 0) for part in match.groups())
    return f"{whole * denominator + numerator}/{denominator}"


def _read(match: re.Match[str]) -> _Number | None:
    """Returns the value of a matched number.

    None if it is too long, has an exponent or divides by zero.
    """
    mantissa, denominator = match["mantissa"].replace(",", ""), match["denominator"] or "1"
    if (
        match["exponent"]
        or len(mantissa) > _MAX_DIGITS
        or len(denominator) > _MAX_DIGITS
        or not int(denominator)
    ):
        return None

    value = Fraction(mantissa) / int(denominator)
    return _Number(-value if match["sign"] == "-" else value, "." in mantissa)
