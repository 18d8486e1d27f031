import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rllib_dapo.envs.verify.size_limits import LARGEST, beyond_bounds


@pytest.mark.parametrize(
    "text",
    [
        "57",
        "-3.75",
        "1,234,567",
        "9" * 100,
        r"\frac{1}{2}",
        "2^{2023}-1",
        "3^{1009}+2^{1000}",
        "10^{-30}",
        "1.5e-10",
        "x^{100}+x^{99}",
        "(x+1)^{12}",
        r"e^{-\frac{x^2}{2\sigma^2}}",
        r"e^{-x^2/2}",
        "2^{2^{10}}",
        "x^{y^{z}}",
        "100!",
        "(2n)!",
        r"\binom{2024}{1012}",
        r"\sqrt[3]{2}+\sqrt{3}",
        r"90^\circ",
        r"[0, 1) \cup (2, \infty)",
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
        r"\left(\frac{1}{2}, \frac{3}{4}\right)",
        "a = b",
        "",
    ],
)
def test_what_people_write_is_within_bounds(text: str) -> None:
    assert beyond_bounds(text) == ""


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("1+" * 200 + "1", "more than 400 characters"),
        ("9" * 101, "a number of more than 100 digits"),
        ("0." + "9" * 100, "a number of more than 100 digits"),
        ("1e5000", "a value of more than 3000 digits"),
        ("1e-5000", "a value of more than 3000 digits"),
        ("1e99999999999", "a value of more than 3000 digits"),
        ("10^{5000}", "a value of more than 3000 digits"),
        ("(10^{100})^{100}", "a value of more than 3000 digits"),
        ("2^{2^{2^{9}}}", "an exponent of more than 10000"),
        ("9^{9^9}", "an exponent of more than 10000"),
        ("9^{9^{9}}", "an exponent of more than 10000"),
        ("9**9**9", "an exponent of more than 10000"),
        (r"9^\sqrt{9^9}", "an exponent of more than 10000"),
        (r"9^{\frac{9^9}{2}}", "an exponent of more than 10000"),
        (r"2^{1000\cdot 1000}", "an exponent of more than 10000"),
        ("2^{9!}", "an exponent of more than 10000"),
        ("2^{-100000}", "an exponent of more than 10000"),
        ("x^{x^{x^{x^{x}}}}", "more than 3 exponents upon exponents"),
        ("1^1^1^1^1", "more than 3 exponents upon exponents"),
        ("1001!", "a factorial of more than 1000"),
        ("9!!", "a factorial of more than 1000"),
        ("(9!)!", "a factorial of more than 1000"),
        ("(9^9)!", "a factorial of more than 1000"),
        (r"\binom{1000000}{2}", "an exponent of more than 10000"),
        ("(" * 30 + "1" + ")" * 30, "more than 20 brackets within brackets"),
        (r"\frac{" * 30 + "1" + "}" * 30, "more than 20 brackets within brackets"),
    ],
)
def test_what_would_grow_without_measure_is_told_before(text: str, bound: str) -> None:
    assert beyond_bounds(text) == bound


NUMBERS = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "*"]), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]})^{{({t[1]})}}"),
    ),
    max_leaves=5,
)


@given(NUMBERS)
def test_a_number_within_bounds_has_no_more_digits_than_allowed(text: str) -> None:
    if beyond_bounds(text):
        return
    value = eval(text.replace("^", "**").replace("{", "(").replace("}", ")"))
    assert value < 10 ** (LARGEST + 1)


@given(st.text(alphabet=r"0123456789^{}()[]!\ex*.+frac ", max_size=400))
def test_any_text_is_told_within_milliseconds(text: str) -> None:
    began = time.thread_time()
    beyond_bounds(text)
    assert time.thread_time() - began < 0.1
