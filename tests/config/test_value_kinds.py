"""What a value must be, by the annotation of its setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from rllib_dapo.config.value_kinds import choices, misfit, takes_list


@pytest.mark.parametrize(
    ("value", "annotation", "wanted"),
    [
        (True, bool, None),
        (1, bool, "true or false"),
        (3, int, None),
        (np.int64(3), int, None),
        (3.0, int, "a whole number"),
        (True, int, "a whole number"),
        (3, float, None),
        (0.5, float, None),
        (float("nan"), float, "a number"),
        (float("inf"), float, "a number"),
        (True, float, "a number"),
        ("0.5", float, "a number"),
        (None, float, "a number"),
        (None, float | None, None),
        ("x", float | None, "a number"),
        ("a", Literal["a", "b"], None),
        ("c", Literal["a", "b"], "one of a, b"),
        ("grou", Literal["group", "gae"], "one of group, gae; did you mean 'group'?"),
        (True, Literal["a", "b"], "one of a, b"),
        ("auto", int | Literal["auto"], None),
        ("all", int | Literal["auto"], "a whole number or auto"),
        ([0.9, 0.99], tuple[float, float], None),
        ((0.9, 1), tuple[float, float], None),
        ((0.9,), tuple[float, float], "two numbers"),
        ((0.9, "x"), tuple[float, float], "two numbers"),
        (0.9, tuple[float, float] | None, "two numbers"),
        ({"a": 1}, dict[str, Any], None),
        ([1], dict[str, Any], "settings, such as {name: value}"),
        (len, str | Callable[..., Any] | None, None),
        ("a:b", str | Callable[..., Any] | None, None),
        (3, str | Callable[..., Any] | None, "text or a function"),
        (object(), Any, None),
    ],
)
def test_a_value_fits_its_annotation_or_is_told_what_it_must_be(
    value: Any, annotation: Any, wanted: str | None
) -> None:
    assert misfit(value, annotation) == wanted


def test_choices_are_the_words_of_a_literal_and_of_nothing_else() -> None:
    assert choices(Literal["a", "b"]) == ("a", "b")
    assert choices(Literal["a", "b"] | None) == ("a", "b")
    assert choices(int | Literal["auto"]) == ()
    assert choices(str) == ()


def test_a_pair_is_one_value() -> None:
    assert takes_list(tuple[float, float] | None)
    assert not takes_list(float)
