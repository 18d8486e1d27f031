import pytest

from rllib_dapo.envs.normalize import normalize_answer


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("57", "57"),
        ("  57 \n", "57"),
        ("-57", "-57"),
        ("−57", "-57"),
        ("57.", "57"),
        ("5.7", "5.7"),
        ("$57$", "57"),
        ("$57", "57"),
        (r"\$57", "57"),
        (r"\(57\)", "57"),
        (r"\[57\]", "57"),
        ("$57$.", "57"),
        ("x = 57", "57"),
        ("$x=57$", "57"),
        ("the value is $57$ apples", "57"),
        (r"\boxed{57}", "57"),
        (r"$\boxed{57}$", "57"),
        (r"\boxed{x=57}", "57"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{57", "57"),
        (r"\boxed{3} or \boxed{57}", "57"),
        ("57 dollars", "57"),
        ("57 degrees", "57"),
        (r"57^\circ", "57"),
        (r"57^{\circ}", "57"),
        ("57°", "57"),
        ("57%", "57"),
        (r"57\%", "57"),
        ("57 cm", "57"),
        ("57cm^2", "57"),
        (r"57\text{ cm}^2", "57"),
        (r"57 \text{ m}^{3}", "57"),
        (r"57\,\mathrm{km}", "57"),
        ("57 square feet", "57"),
        ("57 miles", "57"),
        ("57 mph", "57"),
        ("57 hours", "57"),
        ("hours", "hours"),
        ("1,000", "1000"),
        ("1,234,567", "1234567"),
        ("-1,000.5", "-1000.5"),
        ("1{,}000", "1000"),
        (r"1,\!000", "1000"),
        ("1,2", "1,2"),
        ("1, 2, 3", "1,2,3"),
        (r"1 \text{ and } 2", "1,2"),
        ("10,00", "10,00"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\frac 1 2", r"\frac{1}{2}"),
        (r"\frac ab", r"\frac{a}{b}"),
        (r"\frac1{23}", r"\frac{1}{23}"),
        (r"\frac{1}2", r"\frac{1}{2}"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"\tfrac12", r"\frac{1}{2}"),
        (r"\sqrt2", r"\sqrt{2}"),
        (r"\sqrt 2", r"\sqrt{2}"),
        (r"3\sqrt{5}", r"3\sqrt{5}"),
        (r"\text{Tuesday}", "Tuesday"),
        (r"\textbf{57}", "57"),
        (r"\overline{AB}", "AB"),
        (r"\text{(C)}", "(C)"),
        ("a cat", "cat"),
        (r"\left(3,\frac{\pi}{2}\right)", r"(3,\frac{\pi}{2})"),
        (r"x\quad y", "xy"),
        (r"1, 2, \ldots", "1,2,"),
        ('"57"', "57"),
        ("1/2", "1/2"),
        ("", ""),
        ("$$", ""),
    ],
)
def test_an_answer_has_one_spelling(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


@pytest.mark.parametrize(
    ("one", "two"), [("12", "1,2"), ("1/2", "0.5"), ("x", "X"), ("2", "-2"), ("1.5", "15")]
)
def test_different_answers_stay_different(one: str, two: str) -> None:
    assert normalize_answer(one) != normalize_answer(two)
