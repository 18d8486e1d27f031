r"""Where a response gives its final answer: in a box, on an answer line, after `####`, or in words.

In the order in which they are asked:

1. Marks that mean the final answer: `\boxed{...}`, `Answer: ...` and `#### 18`, the last one first.
2. The word "answer" without a colon (`The answer is 18.`), the last one first.
3. Where there is no mark of the first kind, the last formula or number of the response.

A mark with nothing behind it that could be the answer is passed over, such as the second one of
`\boxed{18}. I have checked the answer: it fits.`
"""

from __future__ import annotations

import re

from rllib_dapo.envs.verify.extract import last_box
from rllib_dapo.envs.verify.words_around import last_quantity

LOOKED_AT = 20_000  # characters of a response: some explain at length after they have answered
_BEHIND = 400  # characters behind a mark whose own line holds nothing
_MOST_MARKS = 4  # of each kind, from the end
_FIRM = re.compile(
    r"""
    answer (?:[ ]?\([^()\n]{1,40}\))? [*_`"' \t]{0,8} \s{0,300} :    # **Answer**: Answer (in cm):
    | \#{4} (?= [ \t]* [-+$€£\\*.0-9] ) (?! [ \t]* [0-9]+ [.)] [ \t]+ [A-Za-z] )  # not a heading
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LOOSE = re.compile(
    r"answer\b>?(?:[^\n.]{0,80}?(?:\b(?:is|are|was|be|equals)\b|=)[ \t]*:?)?", re.IGNORECASE
)
_WORDS = re.compile(r"\\(?:text|boxed|quad)(?![A-Za-z])|(?<!\\)[A-Za-z]{2,}|\b[aAI]\b")
_CONTENT = re.compile(r"[0-9A-Za-z\\]")


def final_answer(response: str, *, is_worded: bool) -> str | None:
    """Returns what a response gives as its final answer, with the words around it on its line.

    Args:
        response: The model's text; its last 20,000 characters count.
        is_worded: Whether the answer that is looked for may be in words alone; if not, what holds
            words alone is passed over.

    Returns:
        None if there is none.
    """
    tail = response[-LOOKED_AT:]

    firm = [(found.start(), _behind(tail, found.end(), is_worded)) for found in _last(_FIRM, tail)]
    if box := last_box(tail):
        firm.append((box.start, box.text))
    for _, text in sorted(firm, reverse=True):
        if _could_be_it(text, is_worded):
            return text

    for found in _last(_LOOSE, tail):
        text = _behind(tail, found.end(), is_worded)
        if _could_be_it(text, is_worded):
            return text
    return None if firm else last_quantity(tail)


def _last(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    return list(pattern.finditer(text))[: -_MOST_MARKS - 1 : -1]


def _behind(text: str, position: int, is_worded: bool) -> str:
    """Returns the rest of the line, or what comes after it if that line cannot be the answer."""
    behind = text[position : position + _BEHIND]
    line = next((line for line in behind.splitlines() if line.strip(" \t*_`>$#[]\\")), "")
    return line if _could_be_it(line, is_worded) else behind


def _could_be_it(text: str, is_worded: bool) -> bool:
    return bool(_CONTENT.search(text if is_worded else _WORDS.sub("", text)))
