"""Whether a program has printed what is expected."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

_LONGEST_NUMBER = 400  # characters; a longer one is compared as text


def is_expected_output(printed: str, expected: str) -> bool:
    """Compares line by line, without regard to white space around words and at the end.

    Words are equal as texts, or as numbers: 2.50 is 2.5, and no other number is.
    """
    ours, theirs = _lines(printed), _lines(expected)
    return len(ours) == len(theirs) and all(map(_is_same_line, ours, theirs))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _is_same_line(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    words, wanted = ours.split(), theirs.split()
    return len(words) == len(wanted) and all(map(_is_same_word, words, wanted))


def _is_same_word(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    both = ours + theirs
    if max(len(ours), len(theirs)) > _LONGEST_NUMBER or not both.isascii() or "_" in both:
        return False
    try:
        return Decimal(ours) == Decimal(theirs)
    except InvalidOperation:
        return False
