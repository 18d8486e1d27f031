"""Values of arithmetic expressions.

The text was written by a model: it is parsed here, never evaluated as code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction

MAX_CHARACTERS = 200
MAX_DIGITS = 1000  # of a numerator or denominator, of every intermediate result
MAX_EXPONENT = 1000
MAX_DEPTH = 30
_DECIMALS = 12

_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*|\.\d+)|(\*\*|[-+*/^()]))", re.ASCII)
_END = ""
_SIGNS = {"\u2212": "-", "\u00d7": "*", "\u00b7": "*", "\u00f7": "/"}


class CalculatorError(ValueError):
    """An expression has no value.

    The message is for the model to read, and repeats nothing that the model wrote.
    """


def calculate(expression: str) -> Fraction:
    """Returns the exact value of an expression of numbers, `+ - * / ^ **` and parentheses.

    Raises:
        CalculatorError: If it is too long, not such an expression, divides by zero or grows too
            large.
    """
    if len(expression) > MAX_CHARACTERS:
        raise CalculatorError(f"the expression is longer than {MAX_CHARACTERS} characters")
    for sign, plain in _SIGNS.items():
        expression = expression.replace(sign, plain)
    return _Parser(expression.strip()).value()


def write_number(value: Fraction) -> str:
    """Writes an integer as it is, and any other number with up to 12 significant digits."""
    if value.denominator == 1:
        return str(value.numerator)
    try:
        return f"{float(value):.{_DECIMALS}g}"
    except OverflowError:
        raise CalculatorError("the result is too large") from None


class _Parser:
    """Recursive descent; one method for each rank of operators, the loosest first."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._token = next(self._tokens)
        self._depth = 0

    def value(self) -> Fraction:
        result = self._sum()
        if self._token != _END:
            raise CalculatorError("there is something left after the expression")
        return result

    def _sum(self) -> Fraction:
        result = self._product()
        while self._token in ("+", "-"):
            sign = 1 if self._take() == "+" else -1
            result = _bounded(result + sign * self._product())
        return result

    def _product(self) -> Fraction:
        result = self._signed()
        while self._token in ("*", "/"):
            if self._take() == "*":
                result = _bounded(result * self._signed())
                continue
            divisor = self._signed()
            if divisor == 0:
                raise CalculatorError("division by zero")
            result = _bounded(result / divisor)
        return result

    def _signed(self) -> Fraction:
        sign = 1
        while self._token in ("+", "-"):
            sign *= 1 if self._take() == "+" else -1
        return sign * self._power()

    def _power(self) -> Fraction:
        base = self._atom()
        if self._token not in ("^", "**"):
            return base
        self._take()
        exponent = self._nested(self._signed)  # from the right: 2^3^2 is 2^9
        return _raise_to(base, exponent)

    def _atom(self) -> Fraction:
        token = self._take()
        if token == "(":
            result = self._nested(self._sum)
            if self._take() != ")":
                raise CalculatorError("a parenthesis is not closed")
            return result
        if token[:1].isdecimal() or token[:1] == ".":
            return Fraction(token.removesuffix("."))
        raise CalculatorError("a number is missing")

    def _nested(self, rule: Callable[[], Fraction]) -> Fraction:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CalculatorError(f"more than {MAX_DEPTH} levels of parentheses or powers")
        result = rule()
        self._depth -= 1
        return result

    def _take(self) -> str:
        token = self._token
        if token != _END:
            self._token = next(self._tokens)
        return token


def _tokens(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise CalculatorError("only numbers, + - * / ^ and parentheses can be used")
        yield match[1] or match[2]
        position = match.end()
    yield _END


def _raise_to(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or abs(exponent) > MAX_EXPONENT:
        raise CalculatorError(f"an exponent must be a whole number, at most {MAX_EXPONENT}")
    if base == 0 and exponent < 0:
        raise CalculatorError("division by zero")
    # Before the power is taken: its digits are those of the base, times the exponent.
    _check_bits(
        max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(int(exponent))
    )
    return base ** int(exponent)


def _bounded(value: Fraction) -> Fraction:
    _check_bits(max(value.numerator.bit_length(), value.denominator.bit_length()))
    return value


def _check_bits(bits: int) -> None:
    if bits > MAX_DIGITS * 3.33:
        raise CalculatorError("the result is too large")
