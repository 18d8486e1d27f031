import math
from typing import Any

import numpy as np
import pytest

from rllib_dapo.envs.env_settings import (
    check_choice,
    check_fraction,
    check_integer,
    check_template,
    merge_settings,
)


def test_what_is_given_wins_over_the_defaults() -> None:
    assert merge_settings("Env", {"a": 1, "b": 2}, {"b": 3}) == {"a": 1, "b": 3}


def test_an_unknown_setting_is_refused_with_its_value_the_likely_name_and_all_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"^Env: unknown setting 'digit' \(value 3\); did you mean 'digits'\? .*"
    ) as caught:
        merge_settings("Env", {"digits": 2, "terms": 2}, {"digit": 3})
    assert str(caught.value).endswith("Known settings: digits, terms")
    assert "\n" not in str(caught.value)


def test_a_setting_like_no_other_is_refused_without_a_guess() -> None:
    with pytest.raises(ValueError, match="unknown setting 'zzzz'") as caught:
        merge_settings("Env", {"digits": 2}, {"zzzz": 3})
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("value", [3, np.int64(3)])
def test_whole_numbers_are_taken(value: Any) -> None:
    assert check_integer("n", value, low=3, high=3) == 3
    assert type(check_integer("n", value, low=0)) is int


@pytest.mark.parametrize("value", [2, 6, 3.0, "3", True, None, math.nan])
def test_other_numbers_are_refused_by_name_and_value(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^n=.*: must be .*from 3 to 5$"):
        check_integer("n", value, low=3, high=5)


@pytest.mark.parametrize("value", [-0.1, 1.1, "0.5", None, True, math.nan])
def test_what_is_no_fraction_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^f=.*: must be a number from 0 to 1$"):
        check_fraction("f", value)


def test_a_choice_is_refused_with_the_known_ones_and_a_guess() -> None:
    assert check_choice("split", "train", ("train", "heldout")) == "train"
    with pytest.raises(
        ValueError, match=r"^split='held': must be one of train, heldout; did you mean 'heldout'"
    ):
        check_choice("split", "held", ("train", "heldout"))


@pytest.mark.parametrize("value", ["{x}", "2 + {x} =", "{{x}} {x}"])
def test_a_template_with_its_one_field_is_taken(value: str) -> None:
    assert check_template("template", value, "x") == value


@pytest.mark.parametrize(
    "value",
    ["", "x", "{y}", "{x}{x}", "{x} {y}", "{}", "{x!r}", "{x:>5}", "{x.a}", "{x", "x}", 5, None],
)
def test_any_other_template_is_refused(value: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^template=.*: must be a text with the field \{x\} exactly once"
    ):
        check_template("template", value, "x")
