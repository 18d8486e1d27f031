"""What a test of assertions is about."""

from __future__ import annotations

import pytest

from rllib_dapo.envs.code.inside.names_in_tests import (
    free_names,
    functions_to_call,
    has_assertion,
    readable_test,
)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("assert add(1, 2) == 3", {"add"}),
        ("assert set(f(1)) == {1} and len(x) == 2", {"f", "x"}),
        ("assert sum(10, 15) == 25", {"sum"}),
        ("assert abs(max(1, 2)) == 2", {"abs", "max"}),
        ("import math\nassert math.isclose(f(1), 2)", {"f"}),
        ("from math import pi as p\nassert f(p)", {"f"}),
        ("x = 3\nassert all(f(i) == x for i in range(3))", {"f"}),
        ("def check(candidate):\n    assert candidate(1)\ncheck(f)", {"f"}),
        ("try:\n    f()\nexcept ValueError as e:\n    assert str(e)", {"f"}),
        ("from solution import f\nassert f(1)", {"f"}),
        ("assert 1 == 1", set()),
    ],
)
def test_free_names_are_the_programs(code: str, names: set[str]) -> None:
    assert free_names(readable_test(code)) == names


@pytest.mark.parametrize(
    ("code", "is_run"),
    [
        ("assert f(1)", True),
        ("if f(1) != 2:\n    raise ValueError", True),
        ("for i in range(3):\n    assert f(i)", True),
        ("def check(g):\n    assert g(1)\ncheck(f)", True),
        ("def test_f():\n    assert f(1)", True),
        ("def assert_same(a, b):\n    pass\nassert_same(f(1), 2)", True),
        ("def check(g):\n    assert g(1)", False),
        ("def test_f(fixture):\n    assert f(1)", False),
        ("class T:\n    def test_f(self):\n        assert f(1)", False),
        ("f(1) == 2", False),
        ("print(f(1))", False),
        ("", False),
    ],
)
def test_only_an_assertion_that_is_run_counts(code: str, is_run: bool) -> None:
    assert has_assertion(readable_test(code)) is is_run


def test_functions_that_nothing_calls_are_called_as_pytest_would() -> None:
    code = "def test_a(): f()\ndef test_b(): f()\ndef helper(): f()\ndef test_c(x): f()\ntest_b()"
    assert functions_to_call(readable_test(code)) == ["test_a"]
