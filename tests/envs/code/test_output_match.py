"""Whether what was printed is what is expected."""

from __future__ import annotations

import pytest

from rllib_dapo.envs.code.output_match import is_expected_output


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("3\n", "3"),
        ("3", "3\n\n"),
        ("1 2 \n3", "1 2\n3\n"),
        ("1  2", "1 2"),
        ("2.50", "2.5"),
        ("2.0", "2"),
        ("1e3", "1000"),
        ("1\r\n2\r\n", "1\n2\n"),
        ("", "\n"),
        ("NaN", "NaN"),
    ],
)
def test_white_space_and_zeros_do_not_matter(printed: str, expected: str) -> None:
    assert is_expected_output(printed, expected)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("3", "4"),
        ("", "3"),
        ("3\n3", "3"),
        ("1\n\n2", "1\n2"),
        ("1 2", "1\n2"),
        ("2.5000001", "2.5"),
        ("yes", "Yes"),
        ("1_000", "1000"),
        ("\uff13", "3"),
        ("\u200b3", "3"),
        ("1\u20282", "1\n2"),
        ("nan", "NaN"),
        ("sNaN", "1"),
        ("1e999999999", "2e999999999"),
        ("0" * 500 + "3", "3"),
    ],
)
def test_anything_else_is_another_output(printed: str, expected: str) -> None:
    assert not is_expected_output(printed, expected)
