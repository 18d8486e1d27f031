from typing import Any

import pytest

from rllib_dapo.envs.verify import boxed


def short(value: Any) -> str:
    """Names a test after the beginning of a text that may be very long."""
    return ascii(value)[:30]


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"\boxed{57}", "57"),
        (r"So $\boxed{57}$ it is.", "57"),
        (r"\boxed {57}", "57"),
        (r"\boxed{3} or rather \boxed{57}", "57"),
        (r"\boxed{57}, and not \boxed{58", "57"),
        (r"\boxed{\boxed{57}}", "57"),
        (r"\boxed{57" + r" \boxed{57}", "57"),
        (r"\boxed{x = 57}", "57"),
        (r"\boxed{57\text{ dollars}}", "57"),
        (r"\boxed{1,000}", "1000"),
        (r"\boxed{\frac{1}{2}}", r"\frac12"),
        (r"\boxed{\{1, 2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{1\right.}", r"\left\{1\right."),
        (r"\boxed{57}", r"\boxed{57}"),
        (r"\boxed{57}" + "x" * 1_900, "57"),
        ("{" * 1_900 + r"\boxed{57}", "57"),
    ],
    ids=short,
)
def test_the_box_that_begins_last_counts(response: str, answer: str) -> None:
    assert boxed(response, answer).is_correct is True


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("57", "57"),
        ("Answer: 57", "57"),
        (r"\boxed57", "57"),
        (r"\boxed{57", "57"),
        (r"\boxed{57\}", "57"),
        (r"\boxed{57} or \boxed{58}", "57"),
        (r"\boxed{0.5}", r"\frac{1}{2}"),
        (r"\boxed{}", ""),
        (r"\boxed{57}" + "x" * 2_000, "57"),
        (r"\boxed{" + "5" * 301 + "}", "5"),
        (r"\fbox{57}", "57"),
    ],
    ids=short,
)
def test_no_box_or_another_one_is_wrong(response: str, answer: str) -> None:
    assert boxed(response, answer).is_correct is False
