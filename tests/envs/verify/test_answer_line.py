import time
from typing import Any

import pytest

from rllib_dapo.envs.verify import strict


def short(value: Any) -> str:
    """Names a test after the beginning of a text that may be very long."""
    return ascii(value)[:30]


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Answer: 57", "57"),
        ("Let us add.\n12 + 45 = 57.\nAnswer: 57", "57"),
        ("answer:57", "57"),
        ("ANSWER : 57", "57"),
        ("The answer: 57", "57"),
        ("Answer:\n57", "57"),
        ("Answer: 57\n\nThat was easy.", "57"),
        ("Answer: 3\nNo, wait.\nAnswer: 57", "57"),
        ("Answer: 57.", "57"),
        ("Answer: $57$", "57"),
        ("Answer: \\$57", "57"),
        (r"Answer: \boxed{57}", "57"),
        (r"Answer: $\boxed{57}$.", "57"),
        (r"Answer: \(57\)", "57"),
        ("Answer: 57 dollars", "57"),
        (r"Answer: $57\text{ degrees}$", "57"),
        ("Answer: x = 57", "57"),
        ("Answer: 1,234", "1234"),
        ("Answer: 1234", "1,234"),
        (r"Answer: \frac12", r"\frac{1}{2}"),
        (r"Answer: \dfrac{1}{2}", r"\frac12"),
        (r"Answer: 2\sqrt3", r"2\sqrt{3}"),
        (r"Answer: \text{Tuesday}", "Tuesday"),
        ("Answer: (1, 2)", "(1,2)"),
        ("x" * 100_000 + "\nAnswer: 57", "57"),
        ("Answer: 57" + "." + " " * 285, "57"),
    ],
    ids=short,
)
def test_the_strict_rule_takes_the_last_answer_line(response: str, answer: str) -> None:
    assert strict(response, answer).is_correct is True


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("57", "57"),
        (r"\boxed{57}", "57"),
        ("The answer is 57", "57"),
        ("Answer: 58", "57"),
        ("Answer: 57\nAnswer: 58", "57"),
        ("Answer: -57", "57"),
        ("Answer: 57 or 58", "57"),
        ("Answer: 0.5", "1/2"),
        ("Answer: 12", "1,2"),
        ("Answer: **57**", "57"),
        ("Answer: 57" + "\n" + "x" * 300, "57"),
        ("Answer:", "57"),
        ("Answer: $$", "$"),
        ("Answer:    \n   ", "57"),
    ],
    ids=short,
)
def test_the_strict_rule_refuses_everything_else(response: str, answer: str) -> None:
    assert strict(response, answer).is_correct is False


def test_the_strict_rule_says_what_it_read() -> None:
    assert strict(r"Answer: $\boxed{1,000}$ dollars", "57").prediction == "1000"
    assert strict("57", "57").reason == "no 'Answer:' line in the last 300 characters"


def test_the_strict_rule_looks_at_exactly_300_characters() -> None:
    assert strict("Answer: 57\n" + "x" * 289, "57").is_correct is True
    assert strict("Answer: 57\n" + "x" * 290, "57").is_correct is False


def test_the_strict_rule_gives_20_000_verdicts_a_second() -> None:
    response = "Let us think step by step.\n" * 200 + r"Answer: $\boxed{\frac12\text{ dollars}}$"
    rates = []
    for _ in range(5):
        began = time.thread_time()
        for _ in range(400):
            strict(response, "57")
        rates.append(400 / (time.thread_time() - began))
    assert max(rates) > 10_000  # half of what is promised: this machine may be busy
