r"""Rules that tell whether a response holds the right answer.

Each is a pure function of the response and the ground truth. Responses are untrusted: nothing is evaluated, nothing
raises, and only a bounded end of the response is looked at, so that no text takes more than a few milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType

from rllib_dapo.envs.base import Verdict
from rllib_dapo.envs.normalize import normalize_answer

AnswerRule = Callable[[str, str], Verdict]

_STRICT_TAIL = 300
_ANSWER_LINE = re.compile(r"Answer\s*:\s*([^\n]+)", re.IGNORECASE)

_NUMBER_TAIL = 2_000
_NUMBER_WINDOW = 400  # a readable number, its commas and its denominator, with room to spare
_MAX_DIGITS = 100
_DIGITS = "0123456789"
_INTEGER_LENGTH = 64
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(
    r"""
    (?P<sign>(?<![\w)\]}])[-+])?                                # the minus of "10-3" is no sign
    (?P<mantissa>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)
    (?P<exponent>e[-+]?[0-9]+)?
    (?:/(?P<denominator>[0-9]+))?
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_SUPERSCRIPT = re.compile(r"\^\{?[-+]?[0-9]+\}?")
_CURRENCY = str.maketrans("", "", "$€£¥₹")
_FRAC = re.compile(r"([0-9]{1,18})?\\[dt]?frac\{([0-9]{1,18})\}\{([0-9]{1,18})\}")


def strict(response: str, answer: str) -> Verdict:
    """The public DAPO recipe's rule: the last ``Answer: ...`` in the last 300 characters, compared as normalized text.

    Args:
        response: The model's text.
        answer: The ground truth; one of more than 300 characters cannot be judged.
    """
    if len(answer) > _STRICT_TAIL:
        return Verdict(is_correct=None, reason=f"the ground truth has more than {_STRICT_TAIL} characters")
    found = _ANSWER_LINE.findall(response[-_STRICT_TAIL:])
    if not found:
        return Verdict(is_correct=False, reason=f"no 'Answer:' line in the last {_STRICT_TAIL} characters")
    prediction = normalize_answer(found[-1])
    # An empty prediction is never right, even where nothing is left of the truth either.
    return Verdict(is_correct=prediction != "" and prediction == _normalized_truth(answer), prediction=prediction)


def last_number(response: str, answer: str) -> Verdict:
    r"""The last number of the response, compared with the ground truth as exact rationals.

    Knows signs, decimals, thousands commas, ``3/4`` and ``\frac{3}{4}``; passes over currency and percent signs, and
    over exponents such as the 2 of ``m^2``. Numbers of more than 100 digits, and ``1e9`` and its like, are read as
    numbers that equal nothing: expanding them is how a response would stop the scorer.

    Args:
        response: The model's text; its last 2,000 characters count.
        answer: The ground truth; one that is no number cannot be judged.
    """
    truth = _rational_truth(answer)
    if truth is None:
        return Verdict(is_correct=None, reason=f"the ground truth {answer[:40]!r} is not a number")
    text = _up_to_last_digit(_plain_numbers(_end(response, _NUMBER_TAIL)))
    numbers = list(_NUMBER.finditer(_end(text, _NUMBER_WINDOW)))
    if not numbers:
        return Verdict(is_correct=False, reason="no number in the response")
    value = _rational(numbers[-1])
    if value is None:
        prediction = numbers[-1][0][:_MAX_DIGITS]
        return Verdict(is_correct=False, prediction=prediction, reason="the last number cannot be read")
    return Verdict(is_correct=value == truth, prediction=str(value))


def exact_integer(response: str, answer: str) -> Verdict:
    """The whole response, white space around it aside, is the integer.

    Args:
        response: The model's text.
        answer: The ground truth; one that is no integer cannot be judged.
    """
    if len(answer) > _STRICT_TAIL or not _INTEGER.fullmatch(answer):
        return Verdict(is_correct=None, reason=f"the ground truth {answer[:40]!r} is not an integer")
    prediction = response.strip()
    # Leading zeros aside, a longer text cannot be the number, and very long ones are slow to read.
    longest = max(_INTEGER_LENGTH, len(answer))
    if len(prediction) > longest or not _INTEGER.fullmatch(prediction):
        return Verdict(is_correct=False, prediction=prediction[:longest], reason="the response is not an integer")
    value = int(prediction)
    return Verdict(is_correct=value == int(answer), prediction=str(value))


ANSWER_RULES: Mapping[str, AnswerRule] = MappingProxyType(
    {"strict": strict, "last_number": last_number, "exact_integer": exact_integer}
)


# A group asks for the same truth group_size times.
@lru_cache(maxsize=4096)
def _normalized_truth(answer: str) -> str:
    return normalize_answer(answer)


@lru_cache(maxsize=4096)
def _rational_truth(answer: str) -> Fraction | None:
    match = _NUMBER.fullmatch(_plain_numbers(answer[:_NUMBER_TAIL]).rstrip("%\\ .").strip())
    return _rational(match) if match else None


def _end(text: str, length: int) -> str:
    """Returns the last so many characters, less what may be the rest of a number that was cut in two."""
    return text if len(text) <= length else text[-length:].lstrip(_DIGITS + ",.+-/eE")


def _up_to_last_digit(text: str) -> str:
    return text[: 1 + max(text.rfind(digit) for digit in _DIGITS)]


def _plain_numbers(text: str) -> str:
    """Rewrites the typesetting of numbers as plain text."""
    text = text.replace("−", "-").replace("{,}", ",").replace(r",\!", ",").replace(r"\$", "").translate(_CURRENCY)
    if "^" in text:
        text = _SUPERSCRIPT.sub("", text)
    return _FRAC.sub(_plain_fraction, text) if "frac{" in text else text


def _plain_fraction(match: re.Match[str]) -> str:
    whole, numerator, denominator = (int(part or 0) for part in match.groups())
    return f"{whole * denominator + numerator}/{denominator}"


def _rational(match: re.Match[str]) -> Fraction | None:
    """Returns the value of a matched number, or None if it is too long, has an exponent or divides by zero."""
    mantissa, denominator = match["mantissa"].replace(",", ""), match["denominator"] or "1"
    if match["exponent"] or len(mantissa) > _MAX_DIGITS or len(denominator) > _MAX_DIGITS or not int(denominator):
        return None
    value = Fraction(mantissa) / int(denominator)
    return -value if match["sign"] == "-" else value
