import pytest

from rllib_dapo.envs.verify.extract import Box, is_balanced, last_answer, last_box


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("no box", None),
        (r"\boxed{1}", Box(0, "1")),
        (r"a \boxed {1} b", Box(2, "1")),
        (r"\boxed{1}\boxed{2}", Box(9, "2")),
        (r"\boxed{1 \boxed{2} 3}", Box(9, "2")),
        (r"\boxed{\frac{1}{2}}", Box(0, r"\frac{1}{2}")),
        (r"\boxed{1}\boxed{2", Box(0, "1")),
        (r"\boxed{\{1\}}", Box(0, r"\{1\}")),
        (r"\boxed{\\{1}}", Box(0, r"\\{1}")),  # a line break, and a group
        (r"}}}\boxed{1}}}", Box(3, "1")),
        (r"\boxed{{1}", None),
        (r"\boxed{}", Box(0, "")),
    ],
)
def test_the_box_that_begins_last_among_the_closed_ones_is_found(
    text: str, box: Box | None
) -> None:
    assert last_box(text) == box


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("nothing", None),
        ("Answer: 1", "1"),
        ("answer : 1 apple\nmore", "1 apple"),
        ("Answer: 1\nAnswer: 2", "2"),
        (r"Answer: 1 \boxed{2}", "2"),
        (r"\boxed{2} Answer: 1", "1"),
        (r"Answer: \boxed{1", r"\boxed{1"),
        ("Answer: 1" + " " * 3_000, None),
    ],
)
def test_of_box_and_answer_line_the_later_one_is_the_answer(
    response: str, answer: str | None
) -> None:
    assert last_answer(response) == answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("{1}", True),
        (r"\{1", True),
        ("{1", False),
        ("1}", False),
        ("}{", False),
        (r"\boxed{{1}}", True),
    ],
)
def test_braces_balance_or_not(text: str, expected: bool) -> None:
    assert is_balanced(text) is expected
