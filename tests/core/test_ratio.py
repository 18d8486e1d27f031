from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rllib_dapo.core import (
    importance_weights,
    log_ratios,
    sequence_ratios,
    sequences_within,
    token_ratios,
    tokens_within,
)

QUICK = settings(derandomize=True, max_examples=100)
MASK = torch.tensor([[True, False, True], [True, True, False], [False, False, False]])

extreme = st.sampled_from([math.inf, -math.inf, 1e300, -1e300, 1e39, -745.2, 5e-324, 0.0])
any_log_probabilities = st.lists(extreme | st.floats(allow_nan=False), min_size=4, max_size=4)


def float64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def masked(values: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities whose ratios are the values, the others', and the mask."""
    return float64(values).log() - 2.0, torch.full((3, 3), -2.0, dtype=torch.float64), MASK


def test_a_log_ratio_is_the_difference_on_the_mask_and_zero_elsewhere() -> None:
    actual = log_ratios(float64([[-1.0, -2.0, -3.0]]), float64([[-1.5, -7.0, -2.0]]), MASK[:1])
    assert actual.tolist() == [[0.5, 0.0, -1.0]]


@pytest.mark.parametrize(
    ("logprob", "other", "expected"),
    [
        (-1000.0, 0.0, -20.0),
        (0.0, -1000.0, 20.0),
        (-math.inf, -1.0, -20.0),
        (-1.0, -math.inf, 20.0),
        (-math.inf, -math.inf, 0.0),
        (1e308, -1e308, 20.0),
        (math.nan, -1.0, 0.0),
    ],
)
def test_a_log_ratio_stays_within_twenty_for_impossible_tokens(
    logprob: float, other: float, expected: float
) -> None:
    everywhere = torch.ones(1, 1, dtype=torch.bool)
    assert log_ratios(float64([[logprob]]), float64([[other]]), everywhere).tolist() == [[expected]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@QUICK
@given(logprobs=any_log_probabilities, other=any_log_probabilities)
def test_log_ratios_of_any_numbers_are_bounded_with_a_gradient_of_zero_or_one(
    dtype: torch.dtype, logprobs: list[float], other: list[float]
) -> None:
    policy = torch.tensor([logprobs], dtype=dtype, requires_grad=True)
    actual = log_ratios(
        policy, torch.tensor([other], dtype=dtype), torch.tensor([[True, True, True, False]])
    )
    assert bool((actual.abs() <= 20).all())
    (gradient,) = torch.autograd.grad(actual.sum(), policy)
    assert set(gradient[0].tolist()) <= {0.0, 1.0}
    assert gradient[0, 3] == 0.0


def test_token_ratios_are_quotients_of_probabilities_and_one_outside_the_mask() -> None:
    actual = token_ratios(*masked([[2.0, 9.0, 0.5], [1.5, 1.0, 9.0], [9.0, 9.0, 9.0]]))
    torch.testing.assert_close(actual, float64([[2.0, 1.0, 0.5], [1.5, 1.0, 1.0], [1.0, 1.0, 1.0]]))


def test_ratios_outside_the_mask_are_one_whatever_is_there() -> None:
    logprobs = float64([[math.nan, -math.inf, 3.0]])
    nowhere = torch.zeros(1, 3, dtype=torch.bool)
    for ratios in (token_ratios, sequence_ratios):
        assert ratios(logprobs, -logprobs, nowhere).tolist() == [[1.0, 1.0, 1.0]]
    assert importance_weights(logprobs, -logprobs, nowhere, cap=0.5).tolist() == [[1.0, 1.0, 1.0]]


def test_a_sequence_ratio_is_the_geometric_mean_over_the_responses_tokens() -> None:
    # The roots of 2 * 8 and of 0.5 * 0.02; the third response has no token.
    actual = sequence_ratios(*masked([[2.0, 9.0, 8.0], [0.5, 0.02, 9.0], [9.0, 9.0, 9.0]]))
    torch.testing.assert_close(actual, float64([[4.0, 1.0, 4.0], [0.1, 0.1, 1.0], [1.0, 1.0, 1.0]]))


def test_every_token_of_a_response_has_the_same_part_in_its_sequence_ratio() -> None:
    logprobs, other, mask = masked([[2.0, 9.0, 8.0], [0.5, 0.02, 9.0], [9.0, 9.0, 9.0]])
    logprobs.requires_grad_()
    (gradient,) = torch.autograd.grad(sequence_ratios(logprobs, other, mask)[:, 0].sum(), logprobs)
    # d s / d log p_t = s / |o|, with s = 4 and 0.1, and two tokens each.
    torch.testing.assert_close(
        gradient, float64([[2.0, 0.0, 2.0], [0.05, 0.05, 0.0], [0.0, 0.0, 0.0]])
    )


def test_importance_weights_are_ratios_up_to_the_cap_without_gradient() -> None:
    old, sampler, mask = masked([[3.0, 9.0, 0.5], [2.0, 1.9, 9.0], [9.0, 9.0, 9.0]])
    actual = importance_weights(old.requires_grad_(), sampler, mask, cap=2.0)
    torch.testing.assert_close(actual, float64([[2.0, 1.0, 0.5], [2.0, 1.9, 1.0], [1.0, 1.0, 1.0]]))
    assert not actual.requires_grad


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.5, 2.0, [False, False, True]),
        (0.5, 4.1, [True, False, True]),
        (0.09, 2.0, [False, True, True]),
        (1.1, 5.0, [True, False, False]),
    ],
)
def test_responses_are_within_by_the_geometric_mean_of_their_ratios(
    low: float, high: float, expected: list[bool]
) -> None:
    arguments = masked(
        [[2.0, 9.0, 8.0], [0.5, 0.02, 9.0], [9.0, 9.0, 9.0]]
    )  # means of 4, 0.1 and, of nothing, 1
    assert sequences_within(*arguments, low=low, high=high).tolist() == expected


def test_equal_policies_are_within_bounds_of_one() -> None:
    logprobs = float64([[-0.1, -3.0, -1 / 3]])
    assert sequences_within(logprobs, logprobs, MASK[:1], low=1.0, high=1.0).tolist() == [True]


def test_tokens_are_within_by_their_own_ratio_and_outside_the_mask_always() -> None:
    # Ratios of 0.4, anything, 2 and 6, 1, anything; the bounds are IcePop's.
    within = tokens_within(
        *masked([[0.4, 99.0, 2.0], [6.0, 1.0, 99.0], [99.0, 99.0, 99.0]]), low=0.5, high=5.0
    )
    assert within.tolist() == [[False, True, True], [False, True, True], [True, True, True]]


def test_bounds_belong_to_what_is_within() -> None:
    exact = tokens_within(
        torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2) == 1, low=1.0, high=1.0
    )
    assert exact.all()
