r"""The rule that knows mathematics: `(x+1)^2` is `x^2+2x+1`.

It asks the library math-verify, which asks sympy.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from functools import lru_cache
from typing import Any

from rllib_dapo.envs.normalize import normalize_answer
from rllib_dapo.envs.verify.cpu_limit import CpuTimeSpent, cpu_limit
from rllib_dapo.envs.verify.extract import is_balanced, last_box
from rllib_dapo.envs.verify.final_answer import LOOKED_AT, final_answer
from rllib_dapo.envs.verify.size_limits import beyond_bounds
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, missing
from rllib_dapo.envs.verify.words_around import (
    has_words,
    is_quantity,
    quantity,
    without_commas,
    without_marks,
)

_MATHEMATICS = re.compile(r"[0-9]|\\(?!text|mathrm|mbox)[A-Za-z]")
_DIGIT = re.compile("[0-9]")
_PLAIN_NUMBER = re.compile(
    r"[-+]?(?:[0-9]{1,100}(?:\.[0-9]{1,100}|/0{0,99}[1-9][0-9]{0,99})?|\.[0-9]{1,100})"
)


def math_verify(response: str, answer: str) -> Verdict:
    r"""The last `\boxed{...}` or `Answer: ...`, compared as mathematics.

    Lengths, numbers of digits, exponents, towers of them, factorials and brackets are bounded
    before sympy sees any of it (see `size_limits`), and an answer beyond the bounds is wrong. Some
    texts within them still keep sympy busy for minutes: give this rule to a process that can be
    killed.

    Args:
        response: The model's text; its last 2,000 characters count.
        answer: The ground truth, in a box or not; one beyond the bounds cannot be judged.
    """
    truth = _plain_truth(answer)
    if refusal := _refusal(truth):
        return Verdict(is_correct=None, reason=f"the ground truth has {refusal}")

    found = final_answer(response, is_worded=not _MATHEMATICS.search(truth))
    if found is None:
        return Verdict(
            is_correct=False,
            reason=f"no answer in the last {LOOKED_AT} characters",
        )

    readings = _readings(found, is_number=is_quantity(truth))
    refusals = [_refusal(reading) for reading in readings]
    readable = [reading for reading, refusal in zip(readings, refusals, strict=True) if not refusal]
    if not readable:
        return Verdict(is_correct=False, reason=f"the answer has {refusals[0]}")
    prediction = normalize_answer(readable[0])
    try:
        with cpu_limit():
            is_correct = any(_are_equal(truth, reading) for reading in readable)
    except (CpuTimeSpent, Exception) as error:
        # Whatever it is that goes wrong over a response must not save it from being wrong.
        told = _told(error)
        if not _can_be_judged(truth):
            return missing(MissingReason.TIMEOUT, f"the ground truth alone takes {told}")
        return Verdict(is_correct=False, prediction=prediction, reason=f"the answer takes {told}")
    return Verdict(is_correct=is_correct, prediction=prediction)


def _told(error: BaseException) -> str:
    if isinstance(error, CpuTimeSpent):
        return str(error)
    return f"the library to {type(error).__name__}"


# A group asks for the same truth group_size times.
@lru_cache(maxsize=256)
def _can_be_judged(truth: str) -> bool:
    """Whether the truth is read and compared with a plain number within the limit."""
    try:
        with cpu_limit():
            _are_equal(truth, "1/7")
    except (CpuTimeSpent, Exception):
        return False
    return True


def _readings(found: str, *, is_number: bool) -> list[str]:
    """Returns how an answer may be read; several only where words may be part of mathematics."""
    whole = without_commas(without_marks(found))
    if not has_words(found):
        if not is_number:
            return [whole]
        # An equation ends with the number that it is about: 12 + 6 = 18.
        end = whole.rpartition("=")[2].strip()
        whole = end if _DIGIT.search(end) else whole
        # Is it a factorial or an exclamation?
        return [whole.removesuffix("!"), whole] if whole.endswith("!") else [whole]

    among_words = without_commas(quantity(found))
    if not among_words:
        return [whole]
    return [among_words] if is_number else [whole, among_words]


def _refusal(text: str) -> str:
    if not text:
        return "no content"
    return beyond_bounds(text) or ("" if is_balanced(text) else "braces that do not balance")


def _are_equal(truth: str, prediction: str) -> bool:
    # Most answers are numbers, and most right ones are written like the truth: neither needs a
    # library.
    if truth == prediction:
        return True
    numbers = _number(truth), _number(prediction)
    if None not in numbers:
        if numbers[0] == numbers[1]:
            return True
        if all(number.denominator == 1 for number in numbers if number is not None):
            return False

    from math_verify import verify

    # The library's own deadlines are alarms of the main thread: useless in a library, harmful in
    # any other thread.
    return bool(verify(list(_parsed_truth(truth)), _parsed(prediction), timeout_seconds=None))


@lru_cache(maxsize=4096)
def _plain_truth(answer: str) -> str:
    box = last_box(answer)
    return without_commas(without_marks(answer if box is None else box.text))


def _number(text: str) -> Fraction | None:
    return Fraction(text) if _PLAIN_NUMBER.fullmatch(text) else None


# A group asks for the same truth group_size times.
@lru_cache(maxsize=256)
def _parsed_truth(text: str) -> tuple[Any, ...]:
    return tuple(_parsed(text))


def _parsed(text: str) -> list[Any]:
    """Reads LaTeX only: the library's other way evaluates what it reads as Python."""
    from math_verify import LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    config = LatexExtractionConfig(boxed_match_priority=0)
    found: list[Any] = parse(
        rf"\boxed{{{text}}}", extraction_config=(config,), parsing_timeout=None
    )
    return found
