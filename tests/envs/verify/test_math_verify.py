"""The rule that asks math-verify, called here.

test_hostile.py gives it what must not be called here.
"""

import subprocess
import sys
import threading

import pytest

from rllib_dapo.envs.verify import Verdict, VerdictKind, math_verify


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"\boxed{57}", "57"),
        ("Answer: 57", "57"),
        ("Answer: 57.", "57"),
        ("Answer: +057", "57"),
        ("**Answer:** $57$", "57"),
        ("Answer: **57**", "57"),
        (r"Answer: \(57\)", "57"),
        (r"Answer: \$57", "57"),
        (r"\boxed{3} \boxed{57}", "57"),
        (r"\boxed{3}" + "\nAnswer: 57", "57"),
        ("Answer: 0.5", r"\frac{1}{2}"),
        (r"\boxed{\frac{2}{4}}", "0.5"),
        (r"\boxed{1/2}", r"\boxed{\frac12}"),
        ("Answer: $1,234$", "1234"),
        ("Answer: (5,100)", "(5, 100)"),
        (r"Answer: \{5,100\}", r"\{100, 5\}"),
        ("Answer: x = 1,234,567", "1234567"),
        ("The final answer is $2yx$. I hope it is correct.", "2xy"),
        ("Answer: 1 1/2 cups", "1.5"),
        ("Answer: $3$ + $4$ = $7$ apples", "7"),
        (r"Answer: \frac{1}{2} + 3 cups", "3.5"),
        (r"Answer: $\frac{1}{2}$ of the cake, or 6 pieces", r"\frac{1}{2}"),
        (r"\boxed{2\sqrt{2}}", r"\sqrt{8}"),
        (r"\boxed{(x+1)^2}", "x^2+2x+1"),
        (r"\boxed{x=5}", "5"),
        (r"\boxed{5\text{ cm}}", "5"),
        (r"\boxed{2,1}", r"\{1,2\}"),
        (r"\boxed{(1, 2)}", "(1,2)"),
        (r"\boxed{2^{10}}", "1024"),
        (r"\boxed{1024}", "2^{10}"),
        (r"\boxed{50\%}", "50"),
        (r"\boxed{\text{Tuesday}}", "Tuesday"),
        (r"\boxed{\begin{pmatrix}1&2\\3&4\end{pmatrix}}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}"),
    ],
)
def test_what_means_the_same_is_correct(response: str, answer: str) -> None:
    assert math_verify(response, answer).kind is VerdictKind.CORRECT


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("I do not know", "57"),
        (r"\boxed{58}", "57"),
        (r"\boxed{57} or \boxed{58}", "57"),
        (r"\boxed{57}" + "x" * 20_000, "57"),
        ("57 at first.\nAnswer: 58", "57"),
        ("Answer: 58\nThough 57 is possible.", "57"),
        ("The sum is 57.\nAnswer: I do not know", "57"),
        ("Answer: 57 or 58", "57"),
        ("Answer: 57x", "57"),
        ("Answer: 57 + 1 = 58", "57"),
        ("The answer is 58, not 57.", "57"),
        ("57 is not it, 58 is", "57"),
        (r"\boxed{x+1}", "x+2"),
        (r"\boxed{0.33}", r"\frac{1}{3}"),
        (r"\boxed{(2,1)}", "(1,2)"),
        (r"\boxed{(5,100)}", "5100"),
        ("Answer: (5100)", "(5,100)"),
        (r"\boxed{}", "57"),
        ("Answer: {57", "57"),
        ("Answer: I do not know", "57"),
        (r"\boxed{9^{9^{9^{9}}}}", "57"),
        (r"\boxed{" + "5" * 101 + "}", "57"),
        (r"\boxed{\frac{57}{0}}", "57"),
    ],
)
def test_what_means_something_else_or_nothing_is_wrong(response: str, answer: str) -> None:
    assert math_verify(response, answer).kind is VerdictKind.WRONG


def test_an_answer_beyond_the_bounds_is_wrong_and_says_which() -> None:
    assert (
        math_verify("Answer: 9^{9^{9}}", "57").reason
        == "the answer has an exponent of more than 10000"
    )
    assert (
        math_verify("Answer: 9999!+1", "57").reason
        == "the answer has a factorial of more than 1000"
    )
    assert math_verify("Answer: {57", "57").reason == "the answer has braces that do not balance"
    assert math_verify("I pass", "57").reason == "no answer in the last 20000 characters"


@pytest.mark.parametrize("answer", ["9^{9^{9}}", "x" * 401, "{57", "", "$$"])
def test_a_ground_truth_beyond_the_bounds_cannot_be_judged(answer: str) -> None:
    verdict = math_verify(f"Answer: {answer}", answer)
    assert verdict.kind is VerdictKind.MISSING
    assert verdict.reason.startswith("the ground truth has ")


def test_the_prediction_is_the_answers_one_spelling() -> None:
    assert {
        math_verify(text, "57").prediction for text in ("Answer: $1,000$", r"\boxed{1000\text{ m}}")
    } == {"1000"}


def test_any_thread_may_ask() -> None:
    verdicts: list[Verdict] = []
    thread = threading.Thread(
        target=lambda: verdicts.append(math_verify(r"\boxed{\frac{3}{6}}", "0.5"))
    )
    thread.start()
    thread.join()
    assert verdicts[0].is_correct is True


@pytest.mark.parametrize(
    "form",
    [
        "Answer: {} marbles",
        "**Answer**: {}",
        "**Answer:**\n\n$$ {} $$",
        "The answer is {}.",
        "So the answer is **{}**.",
        "#### {}",
        "Answer: {} km/h",
        "Answer: {}°",
        "Answer: €{} per day",
        "Answer (in dollars): {}",
        "Answer: 3 + 4 = {}",
        "Answer: {}/1 of the cake",
        "<answer> {} </answer>",
        r"\boxed{{{}}}. I have checked the answer: it fits.",
        "So that is {}, all in all.",
        "{}",
    ],
)
@pytest.mark.parametrize("number", ["57", "1,234", "-3", "0.25", "43.0"])
def test_words_around_a_number_cost_nothing_and_save_nothing(form: str, number: str) -> None:
    assert math_verify(form.format(number), number).is_correct is True
    assert math_verify(form.format("58"), number).is_correct is False


NOUNS = """
    apples marbles books cups days hours minutes seconds weeks years miles meters feet inches pounds
    kilograms grams liters gallons dollars cents euros people students children boys girls men women
    cards coins stickers pencils pens tickets pages cookies eggs flowers trees cars dogs cats birds
    fish boxes pizzas
""".split()  # noqa: SIM905 (words read better without quotes)


@pytest.mark.parametrize("form", ["Answer: {} {}", r"\boxed{{{}\text{{ {}}}}}", "So it is {} {}."])
def test_no_noun_behind_a_number_costs_the_verdict(form: str) -> None:
    assert len(set(NOUNS)) == 47
    for noun in NOUNS:
        assert math_verify(form.format("5", noun), "5").is_correct is True, noun
        assert math_verify(form.format("6", noun), "5").is_correct is False, noun


def test_integers_and_copies_of_the_truth_need_no_library() -> None:
    script = (
        "import sys\n"
        "for name in ('math_verify', 'sympy'): sys.modules[name] = None\n"
        "from rllib_dapo.envs.verify import math_verify\n"
        "for a, b in (('57', '057'), ('57', '58'), ('x^2', 'x^2')):\n"
        "    print(math_verify(f'Answer: {a}', b).is_correct)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False", "True"]
