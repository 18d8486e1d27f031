r"""The rule that knows mathematics: `(x+1)^2` is `x^2+2x+1`.

It asks the library math-verify, which asks sympy.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

from rllib_dapo.envs.normalize import normalize_answer
from rllib_dapo.envs.verify.extract import TAIL, is_balanced, last_answer, last_box
from rllib_dapo.envs.verify.size_limits import beyond_bounds
from rllib_dapo.envs.verify.verdict import Verdict

_INTEGER = re.compile(r"[-+]?[0-9]+")
_MATH_MARKS = re.compile(r"\\[$()\[\]]|\$|\*\*(?=\s|$)|(?:(?<=\s)|^)\*\*")


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

    found = last_answer(response)
    if found is None:
        return Verdict(
            is_correct=False,
            reason=rf"no \boxed{{}} and no 'Answer:' in the last {TAIL} characters",
        )

    prediction = _plain(found)
    if refusal := _refusal(prediction):
        return Verdict(is_correct=False, reason=f"the answer has {refusal}")
    return Verdict(
        is_correct=_are_equal(truth, prediction), prediction=normalize_answer(prediction)
    )


def _refusal(text: str) -> str:
    if not text:
        return "no content"
    return beyond_bounds(text) or ("" if is_balanced(text) else "braces that do not balance")


def _are_equal(truth: str, prediction: str) -> bool:
    # Most answers are integers, and most right ones are written like the truth: neither needs a
    # library.
    if truth == prediction:
        return True
    if _INTEGER.fullmatch(truth) and _INTEGER.fullmatch(prediction):
        return int(truth) == int(prediction)

    from math_verify import verify

    # The library's own deadlines are alarms of the main thread: useless in a library, harmful in
    # any other thread.
    return bool(verify(list(_parsed_truth(truth)), _parsed(prediction), timeout_seconds=None))


@lru_cache(maxsize=4096)
def _plain_truth(answer: str) -> str:
    box = last_box(answer)
    return _plain(answer if box is None else box.text)


def _plain(text: str) -> str:
    """Removes what surrounds mathematics in running text."""
    return _MATH_MARKS.sub("", text).strip().rstrip(".").strip()


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
