r"""Bounds on how large the value of a mathematical text may be, found without evaluating it.

`9^{9^{9^9}}` is short, but its value is too large for any memory in this world. A computer algebra
system sets out to compute it all the same, so such texts must be recognized beforehand.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

LONGEST = 400  # characters
MOST_DIGITS = 100  # of one number as written
DEEPEST = 20  # brackets within brackets
TALLEST = 3  # exponents upon exponents
LARGEST = 3_000  # decimal digits of a value
_LARGEST_FACTORIAL = 1_000
_LARGEST_EXPONENT = 4.0  # as a power of ten
_SYMBOL = math.log10(2)  # a letter counts as a small number: in x^{1000} the exponent costs

_TOKEN = re.compile(
    r"""
    (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+)
    |(?P<binomial>\\[dt]?binom|\\choose)
    |(?P<skipped>\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])|[-+\s])
    |(?P<command>\\[A-Za-z]+)
    |(?P<open>\\?[{(\[])
    |(?P<close>\\?[})\]])
    |(?P<power>\^|\*\*)
    |(?P<factorial>!)
    |(?P<letter>\w)
    |(?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class _TooLarge(Exception):
    """The text passes a bound; the message says which."""


def beyond_bounds(text: str) -> str:
    """Returns why a text must not be evaluated; empty if it may be."""
    if len(text) > LONGEST:
        return f"more than {LONGEST} characters"
    try:
        _Size(text).of_all()
    except _TooLarge as bound:
        return str(bound)
    return ""


class _Size:
    """Reads a text once and adds up, on a logarithmic scale, how large its value can be at most.

    All numbers count as if they were multiplied with each other, which is never too little.
    Brackets may close in any way, because wrong ones are not this reader's business.
    """

    def __init__(self, text: str) -> None:
        self._tokens: Iterator[re.Match[str]] = _TOKEN.finditer(text)
        self._token: re.Match[str] | None = None
        self._advance()

    def of_all(self) -> float:
        """Returns the decimal digits of everything, including what follows stray brackets."""
        total = 0.0
        while self._token is not None:
            total += self._sequence(depth=0, height=0)
            self._advance()
        return total

    def _advance(self) -> None:
        self._token = next((token for token in self._tokens if token.lastgroup != "skipped"), None)

    @property
    def _kind(self) -> str | None:
        return None if self._token is None else self._token.lastgroup

    def _sequence(self, depth: int, height: int) -> float:
        """Returns the size of everything up to a closing bracket or the end."""
        total = 0.0
        while self._kind not in (None, "close"):
            total = _bounded(total + self._item(depth, height))
        return total

    def _item(self, depth: int, height: int) -> float:
        """Returns the size of one thing with its exponents and exclamation marks."""
        size = self._atom(depth, height)
        while self._kind in ("power", "factorial"):
            power = self._kind == "power"
            self._advance()
            if power:
                if height == TALLEST:
                    raise _TooLarge(f"more than {TALLEST} exponents upon exponents")
                size = _power(size, self._item(depth, height + 1))
            else:
                size = _factorial(size)
        return size

    def _atom(self, depth: int, height: int) -> float:
        token, kind = self._token, self._kind
        if token is None or kind == "close":
            return 0.0
        self._advance()

        if kind == "open":
            if depth == DEEPEST:
                raise _TooLarge(f"more than {DEEPEST} brackets within brackets")
            size = self._sequence(depth + 1, height)
            self._advance()
            return size

        if kind in ("command", "binomial"):
            largest = _SYMBOL
            # Of the arguments of \\frac, \\sqrt and \\binom the largest is enough.
            while self._token is not None and self._token[0] in ("{", "["):
                largest = max(largest, self._atom(depth, height))
            return _bounded(_value(largest) * _SYMBOL) if kind == "binomial" else largest

        if kind == "number":
            return _number(token["number"])
        return _SYMBOL if kind == "letter" else 0.0


def _bounded(size: float) -> float:
    if size > LARGEST:
        raise _TooLarge(f"a value of more than {LARGEST} digits")
    return size


def _number(text: str) -> float:
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, decimals = mantissa.partition(".")
    if len(whole) + len(decimals) > MOST_DIGITS:
        raise _TooLarge(f"a number of more than {MOST_DIGITS} digits")
    if len(exponent) > len(str(LARGEST)) + 1:
        raise _TooLarge(f"a value of more than {LARGEST} digits")
    # The exponent of a tiny number makes a long denominator.
    return _bounded(math.log10(max(int(whole or 0), 2)) + abs(int(exponent or 0)))


def _value(size: float) -> float:
    """Returns the value of something of that size, if it may be in an exponent."""
    if size > _LARGEST_EXPONENT:
        raise _TooLarge(f"an exponent of more than {10**_LARGEST_EXPONENT:.0f}")
    return math.pow(10.0, size)


def _power(base: float, exponent: float) -> float:
    return _bounded(max(base, _SYMBOL) * _value(exponent))


def _factorial(size: float) -> float:
    if size > math.log10(_LARGEST_FACTORIAL):
        raise _TooLarge(f"a factorial of more than {_LARGEST_FACTORIAL}")
    return _bounded(10.0**size * max(size, _SYMBOL))
