r"""The rules of the public DAPO recipe, verdict for verdict.

The recipe's checker (`math_dapo.py` among verl's reward scores) normalizes texts in Minerva's way
(arXiv 2206.14858), and has habits that a reader would mend: units are cut out of the middle of
words, `a` and `an` go wherever a space follows, and an empty answer equals an empty truth. They
are kept, because figures that are to be compared with published ones need the same verdicts.

All work takes time in proportion to the length of the text, or of a few lines of it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rllib_dapo.envs.verify.extract import ANSWER_LINE
from rllib_dapo.envs.verify.verdict import MissingReason, Verdict, missing

_TAIL = 300  # characters of the response that the checker looks at
_BOX_TAIL = 100  # and of these, where it looks for a box
_LONGEST = 2_000  # characters of a ground truth; below, normalizing takes a millisecond or so
_NOTHING = "[INVALID]"  # what the checker compares where it finds no answer
_BOX = r"\boxed{"

# In this order: what an earlier one leaves behind, a later one may find.
_REPLACED = (
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    (r"\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (r",\text{and}", ","),
    (r"\text{and}", ","),
    (r"\text{m}", r"\text{}"),
)
_REMOVED = (
    *("square", "ways", "integers", "dollars", "mph", "inches", "hours", "km", "units"),
    r"\ldots",
    *("sue", "points", "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds"),
    *("meters", "meals", "edges", "students", "childrentickets", "multiples"),
    *(r"\text{s}", r"\text{.}", "\\text{\ns}", r"\text{}^2", r"\text{}^3", "\\text{\n}"),
    *(r"\text{}", r"\mathrm{th}", r"^\circ", r"^{\circ}", r"\;", r",\!", "{,}", '"', r"\dots"),
)
_UNWRAPPED = tuple(
    re.compile(pattern)
    for pattern in (
        r"\\text\{([^}\n]*)\}",
        r"\\textbf\{([^}\n]*)\}",
        r"\\overline\{([^}\n]*)\}",
        r"\\boxed\{(.*)\}",  # up to the last brace of the line
    )
)
_SHORT_FRAC = re.compile(r"frac([^{])(.)")
_SHORT_SQRT = re.compile(r"sqrt([^{])")


def dapo_recipe(response: str, answer: str) -> Verdict:
    """The public DAPO recipe's verdict: the last `Answer: ...` of the last 300 characters.

    Args:
        response: The model's text.
        answer: The ground truth; one of more than 2,000 characters cannot be judged.
    """
    if len(answer) > _LONGEST:
        return _too_long()
    found = _last_line(response)
    is_correct = (_NOTHING if found is None else found) == _normalized_truth(answer)
    return _verdict(is_correct, found, f"no 'Answer:' line in the last {_TAIL} characters")


def dapo_recipe_box(response: str, answer: str) -> Verdict:
    r"""The recipe's other verdict (`strict_box_verify`): a box that holds the very ground truth.

    The last `\boxed{` of the last 100 characters counts; nothing is normalized.

    Args:
        response: The model's text.
        answer: The ground truth; one of more than 2,000 characters cannot be judged.
    """
    if len(answer) > _LONGEST:
        return _too_long()
    found = _last_box(response)
    return _verdict(found == answer, found, rf"no \boxed{{}} in the last {_BOX_TAIL} characters")


def dapo_recipe_or_box(response: str, answer: str) -> Verdict:
    r"""The verdict of the checker since August 2026: by the answer line, and else by the box.

    Args:
        response: The model's text.
        answer: The ground truth; one of more than 2,000 characters cannot be judged.
    """
    line, box = _last_line(response), _last_box(response)
    is_by_box = line in (None, _NOTHING) and box is not None
    return dapo_recipe_box(response, answer) if is_by_box else dapo_recipe(response, answer)


def _verdict(is_correct: bool, found: str | None, if_none: str) -> Verdict:
    if found is None:
        return Verdict(is_correct=is_correct, reason=if_none)
    return Verdict(is_correct=is_correct, prediction=found[:_TAIL])


def _too_long() -> Verdict:
    told = f"the ground truth has more than {_LONGEST} characters"
    return missing(MissingReason.TOO_LONG, told)


def _last_line(response: str) -> str | None:
    found = ANSWER_LINE.findall(response[-_TAIL:])
    return _normalized(found[-1]) if found else None


def _last_box(response: str) -> str | None:
    r"""Returns the inside of the last `\boxed{`, if its brace closes; every brace counts."""
    text = response[-_BOX_TAIL:]
    start = text.rfind(_BOX)
    if start < 0:
        return None

    inside, depth = start + len(_BOX), 1
    for position in range(inside, len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return text[inside:position]
    return None


# A group asks for the same truth group_size times.
@lru_cache(maxsize=4096)
def _normalized_truth(answer: str) -> str:
    return _normalized(answer)


def _normalized(text: str) -> str:
    """Returns the spelling that the checker compares."""
    text = text.rpartition("=")[2]
    for before, after in _REPLACED:
        text = text.replace(before, after)
    for word in _REMOVED:
        text = text.replace(word, "")

    text = "\n".join(map(_first_formula, text.split("\n")))
    for wrapper in _UNWRAPPED:
        text = wrapper.sub(r"\1", text)

    text = _SHORT_SQRT.sub(r"sqrt{\1}", _SHORT_FRAC.sub(r"frac{\1}{\2}", text))
    text = text.replace("$", "")
    digits = text.replace(",", "")
    return (digits if digits.isdigit() else text).strip()


def _first_formula(line: str) -> str:
    """Returns what is between the first two dollar signs of a line, or all of it."""
    parts = line.split("$", 2)
    return f"${parts[1]}$" if len(parts) == 3 else line
