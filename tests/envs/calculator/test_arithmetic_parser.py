"""Values of expressions, against Python's own arithmetic, and bounds on expressions."""

from __future__ import annotations

import contextlib
import re
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.envs.calculator.arithmetic_parser import (
    MAX_CHARACTERS,
    CalculatorError,
    calculate,
    write_number,
)

NUMBERS = st.integers(0, 999).map(str) | st.decimals(0, 99, places=2, allow_nan=False).map(str)


def combined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(parts, st.sampled_from(["+", "-", "*", "/"]), parts).map(" ".join)
    return (
        two
        | parts.map("({})".format)
        | parts.map("-{}".format)
        | st.tuples(parts, st.integers(0, 3)).map(_power)
    )


def _power(parts: tuple[str, int]) -> str:
    return f"({parts[0]})**{parts[1]}"


def pythons_value(expression: str) -> Fraction:
    """Evaluates one of the test's own expressions; each number becomes an exact fraction first."""
    return eval(
        re.sub(r"(?<!\*\*)(?<![\d.])(\d+\.?\d*)", r"Fraction('\1')", expression),
        {"Fraction": Fraction},
    )


@given(
    st.recursive(NUMBERS, combined, max_leaves=6).filter(lambda text: len(text) <= MAX_CHARACTERS)
)
def test_an_expression_has_the_value_that_python_gives_it(expression: str) -> None:
    try:
        expected = pythons_value(expression)
    except ZeroDivisionError:
        with pytest.raises(CalculatorError, match="division by zero"):
            calculate(expression)
        return
    assert calculate(expression) == expected


@pytest.mark.parametrize(
    ("expression", "written"),
    [
        ("1+2*3", "7"),
        ("2^3^2", "512"),
        ("-2^2", "-4"),
        ("1/3", "0.333333333333"),
        ("0.1+0.2", "0.3"),
        ("10^18+1", "1000000000000000001"),
        (" ( 1 + 2 ) * 3 ", "9"),
        ("7\u00d78\u00f72\u22121", "27"),
        ("--5", "5"),
        (".5*4.", "2"),
        ("2^-2", "0.25"),
    ],
)
def test_values_by_hand(expression: str, written: str) -> None:
    assert write_number(calculate(expression)) == written


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "a number is missing"),
        ("1+", "a number is missing"),
        ("(1", "a parenthesis is not closed"),
        ("1 2", "something left"),
        ("1/0", "division by zero"),
        ("0^-1", "division by zero"),
        ("9^9^9", "an exponent must be"),
        ("2^0.5", "an exponent must be"),
        ("9^999^1", "too large"),
        ("99999^1000", "too large"),
        ("*".join(["9^900"] * 5), "too large"),
        ("(" * 60 + "1", "levels"),
        ("2^" * 60 + "1", "levels"),
        ("1" * 201, "longer than 200"),
        ("__import__('os')", "only numbers"),
        ("1e999", "only numbers"),
        ("\u0661+\u0662", "only numbers"),
        ("1\x002", "only numbers"),
        ("abs(-1)", "only numbers"),
    ],
)
def test_what_has_no_value_is_told_in_words_of_our_own(expression: str, message: str) -> None:
    with pytest.raises(CalculatorError, match=message) as caught:
        calculate(expression)
    assert "import" not in str(caught.value)


@given(st.text(max_size=250) | st.text("0123456789+-*/^(). ", max_size=200))
def test_no_text_raises_anything_else_or_takes_long(text: str) -> None:
    started = time.process_time()
    with contextlib.suppress(CalculatorError):
        write_number(calculate(text))
    assert time.process_time() - started < 1.0


def test_a_value_that_no_float_can_hold_is_refused() -> None:
    with pytest.raises(CalculatorError, match="too large"):
        write_number(Fraction(10**400, 3))
