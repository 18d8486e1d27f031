r"""The rule that knows mathematics: `(x+1)^2` is `x^2+2x+1`.

It asks the library math-verify, which asks sympy.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
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
    r"""The final answer, compared as mathematics; see `final_answer` for what that is.

    Lengths, numbers of digits, exponents, towers of them, factorials and brackets are bounded
    before sympy sees any of it (see `size_limits`), and an answer beyond the bounds is wrong. Some
    texts within them still keep sympy busy for minutes. In a process of the `VerifierPool` an
    answer that takes too much CPU time is wrong too, unless the ground truth alone takes as much;
    elsewhere nothing bounds it.

    Args:
        response: The model's text; its last 20,000 characters count.
        answer: The ground truth, in a box or not; one beyond the bounds cannot be judged.
    """
    truth = _plain_truth(answer)
    if refusal := _refusal(truth):
        return Verdict(is_correct=None, reason=f"the ground truth has {refusal}")

    found = final_answer(response, is_worded=not _MATHEMATICS.search(truth))
    if found is None:
        return Verdict(is_correct=False, reason=f"no answer in the last {LOOKED_AT} characters")

    readings = _readings(found, is_number=is_quantity(truth))
    refusals = [_refusal(reading) for reading in readings]
    readable = [reading for reading, refusal in zip(readings, refusals, strict=True) if not refusal]
    if not readable:
        return Verdict(is_correct=False, reason=f"the answer has {refusals[0]}")

    is_correct, problem = _judged(truth, readable)
    # Whatever it is that goes wrong over an answer must not save it from being wrong.
    if problem and not _can_be_judged(truth):
        return missing(MissingReason.TIMEOUT, f"the ground truth alone takes {problem}")
    return Verdict(
        is_correct=is_correct,
        prediction=normalize_answer(readable[0]),
        reason=problem and f"the answer takes {problem}",
    )


def _judged(truth: str, readings: Sequence[str]) -> tuple[bool, str]:
    """Returns whether a reading equals the truth, and what kept the library from an answer."""
    plain = [_are_plainly_equal(truth, reading) for reading in readings]
    if True in plain:
        return True, ""
    if None not in plain:
        return False, ""

    import math_verify  # noqa: F401 (the time that it takes to load is nobody's fault)

    try:
        with cpu_limit():
            return any(_are_equal(truth, reading) for reading in readings), ""
    except CpuTimeSpent as spent:
        return False, str(spent)
    except Exception as error:
        return False, f"more than the library can bear: {type(error).__name__}"


# A group asks for the same truth group_size times.
@lru_cache(maxsize=256)
def _can_be_judged(truth: str) -> bool:
    """Whether the truth is read, and compared with a plain number, within the limit."""
    return not _judged(truth, ["1/7"])[1]


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


def _are_plainly_equal(truth: str, prediction: str) -> bool | None:
    """Whether two texts are equal, if that can be told without a library; None if it cannot.

    Most answers are numbers, and most right ones are written like the truth.
    """
    if truth == prediction:
        return True

    number, other = _number(truth), _number(prediction)
    if number is None or other is None:
        return None
    if number == other:
        return True
    # What decimals are near enough is the library's business.
    return False if number.denominator == other.denominator == 1 else None


def _are_equal(truth: str, prediction: str) -> bool:
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
