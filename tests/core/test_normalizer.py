from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_dapo.core import LOSS_AGGREGATIONS, response_weights
from rllib_dapo.core.normalizer import weighted_sum

if TYPE_CHECKING:
    from rllib_dapo.core import LossAggregation

QUICK = settings(derandomize=True, max_examples=50)
MEANS: tuple[LossAggregation, ...] = (
    "token_mean",
    "group_token_mean",
    "sequence_mean",
    "microbatch_token_mean",
)

# Two groups of two responses: 1 + 3 and 2 + 6 tokens.
TOKENS, GROUPS, MAX_TOKENS = [1, 3, 2, 6], [7, 7, 9, 9], 10

a_minibatch = st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 5)), min_size=1, max_size=20)


def test_all_five_normalizers_are_there() -> None:
    assert sorted(LOSS_AGGREGATIONS) == sorted([*MEANS, "sequence_sum_norm"])


@pytest.mark.parametrize(
    ("loss_aggregation", "expected"),
    [
        ("token_mean", [1 / 12] * 4),
        ("group_token_mean", [1 / 8, 1 / 8, 1 / 16, 1 / 16]),
        ("sequence_mean", [1 / 4, 1 / 12, 1 / 8, 1 / 24]),
        ("sequence_sum_norm", [1 / 40] * 4),
        ("microbatch_token_mean", [1 / 12] * 4),
    ],
)
def test_weights_of_two_groups_of_unequal_lengths(
    loss_aggregation: LossAggregation, expected: list[float]
) -> None:
    actual = response_weights(
        TOKENS, GROUPS, loss_aggregation=loss_aggregation, max_response_tokens=MAX_TOKENS
    )
    assert actual == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("loss_aggregation", "expected"),
    [
        ("token_mean", (1 * 5 + 3 * 1 + 2 * 4 + 6 * 2) / 12),  # 28 / 12
        ("group_token_mean", (8 / 4 + 20 / 8) / 2),
        ("sequence_mean", (5 + 1 + 4 + 2) / 4),
        ("sequence_sum_norm", (5 / 10 + 3 / 10 + 8 / 10 + 12 / 10) / 4),
        ("microbatch_token_mean", 28 / 12),
    ],
)
def test_the_weighted_sum_is_the_formula_of_the_table(
    loss_aggregation: LossAggregation, expected: float
) -> None:
    token_loss = [5.0, 1.0, 4.0, 2.0]  # of every token of the response
    weights = response_weights(
        TOKENS, GROUPS, loss_aggregation=loss_aggregation, max_response_tokens=MAX_TOKENS
    )
    assert sum(
        w * n * loss for w, n, loss in zip(weights, TOKENS, token_loss, strict=True)
    ) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("loss_aggregation", "expected"),
    [
        ("token_mean", [1 / 4, 0.0, 1 / 4]),
        ("group_token_mean", [1 / 4, 0.0, 1 / 4]),
        ("sequence_mean", [1 / 3, 0.0, 1 / 9]),  # still a mean over three responses
        ("sequence_sum_norm", [1 / 30, 0.0, 1 / 30]),
        ("microbatch_token_mean", [1 / 4, 0.0, 1 / 4]),
    ],
)
def test_a_response_without_loss_tokens_has_weight_zero(
    loss_aggregation: LossAggregation, expected: list[float]
) -> None:
    actual = response_weights(
        [1, 0, 3], [0, 0, 0], loss_aggregation=loss_aggregation, max_response_tokens=MAX_TOKENS
    )
    assert actual == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("loss_aggregation", LOSS_AGGREGATIONS)
def test_nothing_divides_by_zero_where_no_token_has_loss(loss_aggregation: LossAggregation) -> None:
    assert response_weights(
        [0, 0], [0, 1], loss_aggregation=loss_aggregation, max_response_tokens=5
    ) == [0.0, 0.0]
    assert response_weights([], [], loss_aggregation=loss_aggregation, max_response_tokens=5) == []


def test_a_weighted_sum_takes_every_token_of_the_mask_with_its_responses_weight() -> None:
    losses = torch.tensor(
        [[1.0, 2.0, torch.nan], [4.0, torch.inf, 8.0]], dtype=torch.float64, requires_grad=True
    )
    mask = torch.tensor([[True, True, False], [True, False, True]])
    total = weighted_sum(losses, mask, torch.tensor([0.5, 0.25]))
    assert total.item() == 0.5 * 3 + 0.25 * 12
    assert torch.autograd.grad(total, losses)[0].tolist() == [[0.5, 0.5, 0.0], [0.25, 0.0, 0.25]]


def test_lengths_and_groups_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        response_weights([1, 2], [0], loss_aggregation="token_mean", max_response_tokens=5)


@QUICK
@given(minibatch=a_minibatch, loss_aggregation=st.sampled_from(MEANS))
def test_a_mean_of_ones_is_one(
    minibatch: list[tuple[int, int]], loss_aggregation: LossAggregation
) -> None:
    tokens, groups = [n for n, _ in minibatch], [g for _, g in minibatch]
    weights = response_weights(
        tokens, groups, loss_aggregation=loss_aggregation, max_response_tokens=1000
    )
    assert sum(w * n for w, n in zip(weights, tokens, strict=True)) == pytest.approx(1.0)


@QUICK
@given(
    groups=st.integers(1, 5),
    size=st.integers(1, 5),
    tokens=st.integers(1, 50),
    factor=st.integers(1, 4),
)
def test_normalizers_differ_only_by_a_constant_where_all_responses_have_one_length(
    groups: int, size: int, tokens: int, factor: int
) -> None:
    lengths, of_group = [tokens] * (groups * size), [g for g in range(groups) for _ in range(size)]
    for name in MEANS:
        weights = response_weights(lengths, of_group, loss_aggregation=name, max_response_tokens=1)
        assert weights == pytest.approx([1 / (groups * size * tokens)] * len(lengths))
    summed = response_weights(
        lengths, of_group, loss_aggregation="sequence_sum_norm", max_response_tokens=factor * tokens
    )
    assert summed == pytest.approx([1 / (groups * size * tokens * factor)] * len(lengths))
