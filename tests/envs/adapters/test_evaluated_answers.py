import inspect
import re
import sys
from importlib.util import find_spec

import pytest

from rllib_dapo.envs.adapters.evaluated_answers import (
    EXPRESSIONS,
    LISTS,
    is_harmless_list,
    is_plain_expression,
)

ATTACKS = [
    "__import__('os').system('touch pwned')",
    "open('pwned', 'w')",
    "().__class__.__base__.__subclasses__()",
    "[print(1)]",
    "(lambda: 1)()",
    "[x for x in range(10**10)]",
    "'a' * 10**10",
    "9**9**9**9",
    "f'{open(1)}'",
    "[1, (y := 5)]",
    "exec('1')",
    "10**10**10",
    "__builtins__",
    "x.y",
    "x[0]",
    "factorial(10**9)",
    "a if b else c",
]


@pytest.mark.parametrize(
    "answer",
    [
        *ATTACKS,
        "1 if",
        "x" * 2_000,
        "1e999",
        "1e-9999999",
        "1_0",
        "2**101",
        "(((2**9)**9)**9)**9",
        "",
    ],
)
def test_only_arithmetic_is_a_plain_expression(answer: str) -> None:
    assert not is_plain_expression(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "1",
        " 6*(5-1) ",
        "x**2/2 + C",
        "-3*x**4 + 2*x",
        "exp(2*x)*sin(x)/5",
        "(7 + 3) * 2 - 8 / 4",
        "sqrt(x)",
        "x**(1/2)",
    ],
)
def test_what_the_tasks_ask_for_is_a_plain_expression(answer: str) -> None:
    assert is_plain_expression(answer)


@pytest.mark.parametrize("answer", [attack for attack in ATTACKS if attack != "__builtins__"])
def test_what_does_something_is_no_harmless_list(answer: str) -> None:
    assert not is_harmless_list(answer)


@pytest.mark.parametrize(
    "answer",
    ["1 2 3", "[[1, 0], [0, 1]]", "['A', 'B']", "ABC", "_ Q _\nQ _ _", "[-1, 2]", "", "(" * 500],
)
def test_lists_and_what_is_no_python_are_harmless(answer: str) -> None:
    assert is_harmless_list(answer)


@pytest.mark.skipif(find_spec("reasoning_gym") is None, reason="needs the package reasoning-gym")
def test_every_scorer_that_evaluates_answers_is_known() -> None:
    from reasoning_gym.factory import DATASETS

    evaluates = set()
    for name, (cls, _) in DATASETS.items():
        source = inspect.getsource(sys.modules[cls.__module__])
        scorer = source[source.index("def score_answer") :] if "def score_answer" in source else ""
        if re.search(
            r"\b(?:eval|parse_expr|sympify|exec)\((?:answer|ans|user_answer|\w*answer\w*)\b", scorer
        ):
            evaluates.add(name)
    # What sorts numbers evaluates its own list of them.
    assert evaluates - {"number_sorting"} == LISTS | EXPRESSIONS
