import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rllib_dapo.envs.verify import (
    ANSWER_RULES,
    SLOW_RULES,
    AnswerRule,
    Verdict,
    VerdictKind,
    boxed,
    check_rule,
    exact_integer,
    last_number,
    numeric,
    rules_that_read,
    strict,
)

# The slow ones ask a library, which no deadline holds here: test_math_verify.py and test_hostile.py
# are for them.
QUICK_RULES = {name: rule for name, rule in ANSWER_RULES.items() if name not in SLOW_RULES}

HOSTILE = [
    "",
    "\x00" * 100_000,
    "Answer:\x00",
    "😀" * 100_000,
    "\u202e57\u202c",
    "الجواب ٥٧",
    "\ud800",
    "{" * 100_000,
    "Answer: " + "{" * 250,
    "Answer: " + r"\boxed{" * 40,
    "Answer: " + r"\text{" * 45,
    "Answer: " + r"\frac" * 55,
    "Answer: " + r"\frac{" * 45,
    "Answer: " + r"\sqrt" * 55,
    "Answer: " + "$" * 290,
    "Answer: " + "a " * 140,
    "Answer: " + "=" * 290,
    "Answer" + " " * 100_000,
    "Answer:" * 15_000,
    "Answer: 9^{9^{9^{9^9}}}",
    "Answer: 10**10**10",
    "Answer: __import__('os').abort()",
    "1e999999999",
    "Answer: 1e999999999",
    "9" * 100_000,
    "9" * 99_000 + "e7",
    "9" * 99_000 + "/57",
    "0." + "0" * 99_000 + "57",
    "1/0",
    r"\frac{57}{0}",
    "57/" + "0" * 50_000,
    "1,111" * 20_000,
    "1," * 50_000,
    "1/" * 50_000,
    "-" * 100_000,
    "^{" * 50_000,
    "^1" * 50_000,
    r"\frac{1}{2}" * 9_000,
    ("1" * 19 + r"\frac{1}{2}") * 3_000,
    " " * 100_000,
    "\n" * 100_000,
]


def short(value: Any) -> str:
    """Names a test after the beginning of a text that may be very long."""
    return ascii(value)[:30]


def test_verdicts_are_of_four_kinds() -> None:
    assert strict("Answer: 57", "57").kind is VerdictKind.CORRECT
    assert strict("57", "57").kind is VerdictKind.WRONG
    assert last_number("57", "Tuesday").kind is VerdictKind.MISSING
    assert Verdict(is_correct=None, reward=0.5).kind is VerdictKind.GRADED
    assert hash(Verdict(is_correct=True, components={"a": 1.0})) == hash(
        Verdict(is_correct=True, components={"a": 1.0})
    )


def test_a_rule_is_known_by_its_name_and_by_the_librarys_spelling() -> None:
    assert [check_rule("answer_rule", name) for name in ANSWER_RULES] == list(ANSWER_RULES)
    assert check_rule("answer_rule", "math-verify") == "math_verify"
    with pytest.raises(
        ValueError,
        match=r"^answer_rule='box': must be one of strict, boxed, .*; did you mean 'boxed'",
    ):
        check_rule("answer_rule", "box")
    with pytest.raises(ValueError, match=r"^answer_rule=\['strict'\]: must be one of"):
        check_rule("answer_rule", ["strict"])


@pytest.mark.parametrize(
    ("rule", "answer", "reason"),
    [
        (strict, "x" * 301, "too long: the ground truth has more than 300 characters"),
        (boxed, "x" * 301, "too long: the ground truth has more than 300 characters"),
        (numeric, "Tuesday", "the ground truth 'Tuesday' is not a number"),
        (last_number, "Tuesday", "the ground truth 'Tuesday' is not a number"),
        (last_number, "1 and 2", "the ground truth '1 and 2' is not a number"),
        (last_number, "1e5", "the ground truth '1e5' is not a number"),
        (last_number, "9" * 50_000, f"the ground truth '{'9' * 40}' is not a number"),
        (exact_integer, "1.5", "the ground truth '1.5' is not an integer"),
        (exact_integer, "9" * 50_000, f"the ground truth '{'9' * 40}' is not an integer"),
    ],
    ids=lambda value: value.__name__ if callable(value) else short(value),
)
def test_a_truth_that_a_rule_cannot_read_gives_no_verdict(
    rule: AnswerRule, answer: str, reason: str
) -> None:
    verdict = rule("Answer: 57", answer)
    assert verdict.is_correct is None
    assert verdict.reason == reason


@pytest.mark.parametrize("rule", QUICK_RULES.values(), ids=QUICK_RULES)
@pytest.mark.parametrize("response", HOSTILE, ids=short)
def test_no_text_raises_or_takes_long_or_is_taken_for_the_truth(
    rule: AnswerRule, response: str
) -> None:
    began = time.thread_time()
    verdict = rule(response, "58")
    # Milliseconds; the bound is for a machine that is busy with something else.
    assert time.thread_time() - began < 0.05
    assert verdict.is_correct is False
    assert len(verdict.prediction) <= 300


@pytest.mark.parametrize("rule", QUICK_RULES.values(), ids=QUICK_RULES)
@given(
    st.text(max_size=300)
    | st.text(alphabet=r"0123456789,.-+/eE$^{}\fracsqtboxedANSWER:= ", max_size=300),
    st.sampled_from(["57", r"\frac{1}{2}", "", "Tuesday", "-1,000.5", "1/0", "%", "\x00"]),
)
@example(response="Answer: ", answer="")
def test_no_rule_ever_raises(rule: AnswerRule, response: str, answer: str) -> None:
    for text in (response, "Answer: " + response):
        assert rule(text, answer).is_correct in (True, False, None)


@given(
    st.integers(-(10**30), 10**30),
    st.text(alphabet=st.characters(exclude_characters="\n"), max_size=2_500),
)
def test_a_number_at_the_end_of_any_text_is_found(number: int, before: str) -> None:
    for text in (str(number), f"{number:,}"):
        assert last_number(f"{before} is {text}.", str(number)).is_correct is True
        assert strict(f"{before}\nAnswer: {text}.", str(number)).is_correct is True


@pytest.mark.parametrize(
    ("answer", "rules"),
    [
        ("57", set(ANSWER_RULES)),
        ("1,000", set(ANSWER_RULES) - {"exact_integer"}),
        (
            r"\frac{1}{2}",
            set(ANSWER_RULES) - {"exact_integer"},
        ),
        ("Tuesday", set(ANSWER_RULES) - {"exact_integer", "numeric", "last_number"}),
        ("two\nlines", {"boxed", "dapo_recipe_box", "math_verify"}),
        ("x" * 3_000, set()),
        ("", set()),
        (" \n", set()),
    ],
)
def test_which_rules_can_read_a_ground_truth_is_known(answer: str, rules: set[str]) -> None:
    assert set(rules_that_read(answer)) == rules


def test_to_know_it_no_library_is_loaded() -> None:
    script = (
        "import sys\n"
        "for name in ('math_verify', 'sympy'): sys.modules[name] = None\n"
        "from rllib_dapo.envs.verify import rules_that_read\n"
        "for answer in ('5', 'x^2', '[1, 2]', 'two\\nlines', '9^{9^{9}}', '$' * 2000):\n"
        "    rules_that_read(answer)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
