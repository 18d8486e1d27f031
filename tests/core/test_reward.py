from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_dapo.core import composite_reward, correctness_reward, soft_overlong_punishment

QUICK = settings(derandomize=True, max_examples=50)


def test_a_verdict_is_worth_one_or_minus_one() -> None:
    assert (correctness_reward(True), correctness_reward(False)) == (1.0, -1.0)


def test_the_composite_reward_adds_half_the_steps_and_takes_three_tenths_of_the_length() -> None:
    assert composite_reward(correctness=1.0, step_quality=0.0, length_penalty=0.0) == 1.0
    assert composite_reward(correctness=0.0, step_quality=1.0, length_penalty=0.0) == 0.5
    assert composite_reward(correctness=0.0, step_quality=0.0, length_penalty=1.0) == -0.3
    assert composite_reward(
        correctness=-1.0, step_quality=0.5, length_penalty=0.25
    ) == pytest.approx(-0.825)


def test_the_weights_of_the_composite_reward_are_free() -> None:
    reward = composite_reward(
        correctness=2.0, step_quality=3.0, length_penalty=5.0, weights=(7.0, 11.0, 13.0)
    )
    assert reward == 2 * 7 + 3 * 11 - 5 * 13


@pytest.mark.parametrize(
    ("response_tokens", "expected"),
    [
        (0, 0.0),
        (16_383, 0.0),
        (16_384, 0.0),  # L_max - L_cache: the last length that costs nothing
        (16_385, -1 / 4096),
        (18_432, -0.5),
        (20_479, -4095 / 4096),
        (20_480, -1.0),  # L_max: the whole punishment
        (20_481, -1.0),
        (10**9, -1.0),
    ],
)
def test_the_punishment_has_the_papers_values_at_its_corners(
    response_tokens: int, expected: float
) -> None:
    assert (
        soft_overlong_punishment(response_tokens, max_response_tokens=20_480, buffer_tokens=4096)
        == expected
    )


@pytest.mark.parametrize(
    ("response_tokens", "expected"), [(99, 0.0), (100, 0.0), (101, -1.0), (102, -1.0)]
)
def test_an_empty_buffer_leaves_only_the_step_beyond_the_limit(
    response_tokens: int, expected: float
) -> None:
    assert (
        soft_overlong_punishment(response_tokens, max_response_tokens=100, buffer_tokens=0)
        == expected
    )


@pytest.mark.parametrize(
    ("response_tokens", "expected"), [(0, 0.0), (1, -0.1), (5, -0.5), (10, -1.0), (11, -1.0)]
)
def test_a_buffer_as_wide_as_the_limit_punishes_from_the_first_token(
    response_tokens: int, expected: float
) -> None:
    assert (
        soft_overlong_punishment(response_tokens, max_response_tokens=10, buffer_tokens=10)
        == expected
    )


@pytest.mark.parametrize(
    ("buffer_tokens", "response_tokens", "expected"),
    [(4, 8, -1.25), (4, 10, -2.5), (4, 11, -2.5), (0, 11, -2.5)],
)
def test_the_penalty_scales_the_whole_term(
    buffer_tokens: int, response_tokens: int, expected: float
) -> None:
    shaped = soft_overlong_punishment(
        response_tokens, max_response_tokens=10, buffer_tokens=buffer_tokens, penalty=2.5
    )
    assert shaped == expected


@QUICK
@given(data=st.data(), max_tokens=st.integers(1, 10_000), penalty=st.floats(0.0, 10.0))
def test_the_punishment_follows_equation_13_branch_by_branch(
    data: st.DataObject, max_tokens: int, penalty: float
) -> None:
    buffer = data.draw(st.integers(1, max_tokens))
    tokens = data.draw(st.integers(0, 2 * max_tokens))
    if tokens <= max_tokens - buffer:
        expected = 0.0
    elif tokens <= max_tokens:
        expected = penalty * ((max_tokens - buffer) - tokens) / buffer
    else:
        expected = -penalty
    shaped = soft_overlong_punishment(
        tokens, max_response_tokens=max_tokens, buffer_tokens=buffer, penalty=penalty
    )
    assert shaped == pytest.approx(expected, rel=1e-12, abs=0)


@QUICK
@given(tokens=st.integers(0, 200), max_tokens=st.integers(1, 100), buffer=st.integers(0, 100))
def test_one_more_token_never_lessens_the_punishment(
    tokens: int, max_tokens: int, buffer: int
) -> None:
    buffer = min(buffer, max_tokens)
    shorter, longer = (
        soft_overlong_punishment(n, max_response_tokens=max_tokens, buffer_tokens=buffer)
        for n in (tokens, tokens + 1)
    )
    assert -1.0 <= longer <= shorter <= 0.0
