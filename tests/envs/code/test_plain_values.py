"""What goes between a program and its tests is plain data, whatever either side says."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, deque, namedtuple
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_dapo.envs.code.inside.plain_values import decode, encode

NUMBERS = st.integers() | st.floats(allow_nan=False) | st.booleans() | st.fractions()
LEAVES = NUMBERS | st.none() | st.text() | st.binary() | st.sets(NUMBERS) | st.frozensets(st.text())
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.tuples(NUMBERS), inner, max_size=3)
    ),
    max_leaves=10,
)


class Color(IntEnum):
    RED = 1


class Yes(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


def refuse(value: Any) -> int:
    raise AssertionError(value)


def there_and_back(value: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value, refuse))), refuse)


@settings(max_examples=50)
@given(VALUES)
def test_plain_data_comes_back_as_it_was(value: Any) -> None:
    back = there_and_back(value)
    assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Color.RED, 1),
        (Yes(7), 7),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=[1]), {"a": [1]}),
        (namedtuple("Point", "x y")(1, 2), (1, 2)),
        (deque([1, 2]), deque([1, 2])),
        (range(3), range(3)),
        (Decimal("1.50"), Decimal("1.5")),
        (Fraction(1, 3), Fraction(1, 3)),
        (3 + 1j, 3 + 1j),
        (7**5000, 7**5000),
        (float("inf"), float("inf")),
        ("\ud800", "\ud800"),
        (bytearray(b"x"), bytearray(b"x")),
    ],
)
def test_a_subclass_comes_back_as_what_it_derives_from(value: Any, plain: Any) -> None:
    back = there_and_back(value)
    assert (type(back), back) == (type(plain), plain)


def test_what_has_behaviour_is_a_number_to_the_other_side() -> None:
    objects: list[Any] = []

    def refer(value: Any) -> int:
        objects.append(value)
        return len(objects) - 1

    content = encode([object, (lambda: 1,)], refer)
    first, (second,) = decode(content, lambda number: f"object {number}")
    assert (first, second) == ("object 0", "object 1")
    assert objects[0] is object


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"type": "tuple"},
        {"type": "tuple", "value": "x"},
        {"type": "eval", "value": "1"},
        {"type": "int", "value": 3},
        {"type": "int", "value": "x"},
        {"type": "dict", "value": [[1]]},
        {"type": "set", "value": [[1]]},
        {"type": "dict", "value": [[[], 1]]},
        {"type": "bytes", "value": "x"},
        {"type": "range", "value": [1, 2, 0]},
        {"type": "range", "value": ["a", 2, 1]},
        {"type": "Fraction", "value": "1/0"},
        {"type": "Decimal", "value": "x"},
        {"type": "object", "value": "0"},
    ],
)
def test_what_makes_no_sense_is_an_error_and_nothing_else(content: Any) -> None:
    with pytest.raises((ValueError, TypeError, ArithmeticError)):
        decode(content, refuse)


def test_a_value_that_contains_itself_is_an_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(RecursionError):
        encode(value, refuse)
