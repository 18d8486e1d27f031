from typing import Any

import pytest

from rllib_dapo.envs.verify import exact_integer, last_number, numeric


def short(value: Any) -> str:
    """Names a test after the beginning of a text that may be very long."""
    return ascii(value)[:30]


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("57", "57"),
        ("It is 57.", "57"),
        ("12 + 45 = 57", "57"),
        ("First 3, then 57!", "57"),
        ("57.0", "57"),
        ("057", "57"),
        ("+57", "57"),
        ("$57", "57"),
        ("$57$", "57"),
        (r"\$57.00", "57"),
        ("€57", "57"),
        ("57%", "57"),
        (r"57\%", "57"),
        ("57 cm^2", "57"),
        ("57 m^{2}", "57"),
        ("1,234 apples", "1234"),
        ("1234", "1,234"),
        ("1,234,567.50", "1234567.5"),
        ("1{,}234", "1234"),
        (r"\boxed{57}", "57"),
        ("-57", "-57"),
        ("−57", "-57"),
        ("-$57", "-57"),
        ("$-57$", "-57"),
        ("10-57", "57"),
        ("x-57", "57"),
        ("x = -57", "-57"),
        ("(-57)", "-57"),
        ("0.5", "1/2"),
        ("1/2", "0.5"),
        (".5", "0.5"),
        (r"\frac{1}{2}", "0.5"),
        (r"-\frac{1}{2}", "-1/2"),
        (r"3\dfrac{1}{2}", "3.5"),
        ("48/2", "24"),
        ("0.1", "1/10"),
        ("0.3333333333333333", "0.3333333333333333"),
        ("1,2,57", "57"),
        ("x" * 100_000 + " 57", "57"),
        ("57" + "x" * 1_900, "57"),
        ("9" * 100, "9" * 100),
        ("57\x00", "57"),
        ("\u202e57\u202c", "57"),
        ("57", " $57 "),
        ("57", r"57\%"),
    ],
    ids=short,
)
def test_the_last_number_counts_as_an_exact_rational(response: str, answer: str) -> None:
    assert last_number(response, answer).is_correct is True


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("", "57"),
        ("fifty-seven", "57"),
        ("57 or 58", "57"),
        ("-57", "57"),
        ("5.7", "57"),
        ("5 7", "57"),
        ("0.33", "1/3"),
        ("57e0", "57"),
        ("1e57", "57"),
        ("57/0", "57"),
        ("1/57", "57"),
        ("57" + "x" * 2_000, "57"),
        ("9" * 101, "9" * 100),
        ("1" + "0" * 2_000 + "57", "57"),
        ("9" * 3_000 + "57", "57"),
        ("9" * 3_000 + "/57", "57"),
        ("9" * 3_000 + "e57", "57"),
        ("9" * 390 + "e57", "57"),
        ("٥٧", "57"),
        ("５７", "57"),
    ],
    ids=short,
)
def test_another_last_number_or_none_is_wrong(response: str, answer: str) -> None:
    assert last_number(response, answer).is_correct is False


def test_equal_numbers_are_equal_predictions() -> None:
    # Majority votes count predictions as texts.
    assert {
        last_number(text, "1").prediction for text in ("1,000", "1000.0", "$1000", "2000/2")
    } == {"1000"}
    assert last_number("-0.75", "1").prediction == "-3/4"


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"\boxed{57} on page 12", "57"),
        ("Answer: 57 apples\nThat took 3 steps", "57"),
        ("Answer: 3\n" + r"or \boxed{57}, see page 12", "57"),
        (r"\boxed{3}" + "\nAnswer: 57\n12", "57"),
        (r"Answer: \boxed{57} (page 12)", "57"),
        ("It is 57", "57"),
        (r"\boxed{57", "57"),
        (r"\boxed{x = \frac{57}{2}}", "28.5"),
        (r"\boxed{\frac12}", "0.5"),
        (r"\boxed{\dfrac{2}{4}}", "1/2"),
        (r"\boxed{50\%}", "50"),
        (r"\boxed{57\text{ m}^2}", "57"),
        (r"\boxed{1,234.50}", "1234.5"),
    ],
    ids=short,
)
def test_the_numeric_rule_reads_the_box_or_the_answer_line_or_else_the_end(
    response: str, answer: str
) -> None:
    assert numeric(response, answer).is_correct is True


@pytest.mark.parametrize(
    ("response", "answer", "tolerance", "is_correct"),
    [
        ("3.14", "3.1416", 0.001, True),
        ("3.14", "3.1416", 0.0005, False),
        ("3.14", "3.1416", 0.0, False),
        ("314", "314.16", 0.001, True),
        ("0.01", "0", 0.01, True),
        ("0.02", "0", 0.01, False),
        ("-3.14", "3.14", 0.1, False),
        ("0.333", "1/3", 0.001, True),
        ("1/3", "0.333", 0.001, True),
        ("333/1000", "1/3", 0.001, False),  # a fraction is meant exactly
        ("1001", "1000", 0.01, False),  # and so is a whole number
        ("1001.0", "1000", 0.01, True),
    ],
)
def test_a_tolerance_is_for_decimals_alone(
    response: str, answer: str, tolerance: float, is_correct: bool
) -> None:
    assert numeric(response, answer, tolerance).is_correct is is_correct


@pytest.mark.parametrize(
    ("response", "is_correct"),
    [
        ("57", True),
        (" 57\n", True),
        ("+57", True),
        ("0057", True),
        ("57.0", False),
        ("x57", False),
        ("", False),
        ("0" * 63 + "57", False),
        ("57" * 50_000, False),
        ("５７", False),
        ("5_7", False),
    ],
    ids=short,
)
def test_the_exact_rule_takes_an_integer_and_nothing_else(response: str, is_correct: bool) -> None:
    assert exact_integer(response, "57").is_correct is is_correct
