"""The forms in which data sets have tests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rllib_dapo.envs.answer_cells import answer_as_data
from rllib_dapo.envs.code.problem_tests import AssertTest, CallTest, StdioTest, read_tests

HUMANEVAL = "def check(candidate):\n    assert candidate(1, 2) == 3\n"


def read(value: Any, prompt: str = "") -> list[Any]:
    """As a file's column reaches the reward."""
    return list(read_tests(answer_as_data(value), prompt))


@pytest.mark.parametrize(
    ("value", "tests"),
    [
        # APPS and TACO, as JSON in a text or as a mapping
        (
            json.dumps({"inputs": ["1 2\n"], "outputs": ["3\n"]}),
            [StdioTest(stdin="1 2\n", stdout="3\n")],
        ),
        (
            {"inputs": [["1", "2"]], "outputs": [["3"]]},
            [StdioTest(stdin="1\n2", stdout="3")],
        ),
        (
            {"inputs": [[1, [2]]], "outputs": [[3]], "fn_name": "add"},
            [CallTest(function="add", arguments=(1, [2]), expected=[3])],
        ),
        # LiveCodeBench
        (
            [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}],
            [StdioTest(stdin="1 2\n", stdout="3\n")],
        ),
        (
            {
                "fn_name": "add",
                "tests": [{"input": '[1]\n"a"', "output": "3", "testtype": "functional"}],
            },
            [CallTest(function="add", arguments=([1], "a"), expected=3)],
        ),
        # MBPP: the column of assertions, or the whole row
        (
            ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
            [AssertTest(code="assert add(1, 2) == 3"), AssertTest(code="assert add(0, 0) == 0")],
        ),
        (
            {
                "test_list": ["assert add(x, 2) == 3"],
                "test_setup_code": "x = 1",
                "test_imports": ["import math"],
            },
            [AssertTest(code="import math\nx = 1\nassert add(x, 2) == 3")],
        ),
        (
            "assert add(1, 2) == 3  #### three\n# The answer is: 3",
            [AssertTest(code="assert add(1, 2) == 3  #### three\n# The answer is: 3")],
        ),
        # HumanEval
        (
            {"test": HUMANEVAL, "entry_point": "add"},
            [AssertTest(code=f"{HUMANEVAL}\n\ncheck(add)\n")],
        ),
    ],
)
def test_a_published_form_is_read(value: Any, tests: list[Any]) -> None:
    assert read(value) == tests


def test_without_a_name_the_candidate_is_what_the_prompt_defines_last() -> None:
    prompt = "def helper(x):\n    return x\n\ndef add(a, b):\n    '''Adds.'''\n"
    (test,) = read(HUMANEVAL, prompt)
    assert test.code.endswith("\n\ncheck(add)\n")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "no assertion"),
        ("3", "no known form"),
        ("three", "no assertion"),
        ("assert add(1, 2) = 3", "not Python"),
        ("add(1, 2) == 3", "no assertion"),
        ("def f():\n    assert add(1, 2) == 3", "no assertion that is run"),
        (
            "class T(TestCase):\n    def test_a(self):\n        assert add(1, 2) == 3",
            "no assertion",
        ),
        ("from solution import *\nassert add(1, 2) == 3", "only names as they are"),
        (["assert 1 + 1 == 2"], "uses nothing that a program defines"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs, but 0 outputs"),
        ({"inputs": [], "outputs": []}, "no test in it"),
        ({"inputs": ["1"], "outputs": ["1"], "fn_name": "f"}, "arguments of f are not a list"),
        ({"inputs": [None], "outputs": ["1"]}, "not a text"),
        ([{"input": "1", "output": "1", "testtype": "functional"}], 'no "fn_name"'),
        (
            {"fn_name": "f", "tests": [{"input": "x", "output": "1", "testtype": "functional"}]},
            "not JSON",
        ),
        ([{"in": "1"}], "unknown form"),
        ([1], "unknown form"),
        (HUMANEVAL, 'no "entry_point"'),
        ({"test": HUMANEVAL, "entry_point": "a b"}, 'no "entry_point"'),
        ([], "no test in it"),
    ],
)
def test_what_is_no_test_is_refused_in_one_line(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        read(value)
    assert "\n" not in str(refused.value)
