from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_dapo.core import entropy_threshold, high_entropy_mask

QUICK = settings(derandomize=True, max_examples=50)
ENTROPIES = [0.5, 3.0, 0.0, 2.0, 1.0, 0.1, 0.2, 0.3, 0.4, 2.5]


@pytest.mark.parametrize(
    ("keep_fraction", "expected"),
    [(0.1, 3.0), (0.2, 2.5), (0.3, 2.0), (0.5, 0.5), (1.0, 0.0), (0.01, 3.0)],
)
def test_the_threshold_is_the_entropy_of_the_last_token_kept(
    keep_fraction: float, expected: float
) -> None:
    entropies = torch.tensor(ENTROPIES, dtype=torch.float64)
    assert entropy_threshold(entropies, keep_fraction=keep_fraction).item() == expected


def test_entropies_that_are_not_numbers_are_left_out() -> None:
    entropies = torch.tensor([math.nan, 1.0, math.nan, 2.0, 3.0, 4.0, math.nan])
    assert entropy_threshold(entropies, keep_fraction=0.5).item() == 3.0


@pytest.mark.parametrize("entropies", [[], [math.nan, math.nan]])
def test_the_threshold_of_nothing_keeps_everything(entropies: list[float]) -> None:
    threshold = entropy_threshold(torch.tensor(entropies), keep_fraction=0.2)
    assert threshold.item() == -math.inf
    mask = torch.tensor([[True, False, True]])
    assert torch.equal(high_entropy_mask(torch.zeros(1, 3), mask, threshold), mask)


def test_the_mask_keeps_tokens_with_loss_at_or_above_the_threshold() -> None:
    entropy = torch.tensor([[0.5, 2.0, 1.0, 3.0], [1.5, 0.9, math.nan, 1.0]])
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    kept = high_entropy_mask(entropy, mask, torch.tensor(1.0))
    assert kept.tolist() == [[False, True, True, False], [True, False, False, True]]


@QUICK
@given(
    entropies=st.lists(st.integers(0, 10**6), min_size=1, max_size=200, unique=True),
    keep_fraction=st.floats(0.01, 1.0),
)
def test_the_share_kept_is_the_one_asked_for_to_the_nearest_token(
    entropies: list[int], keep_fraction: float
) -> None:
    values = torch.tensor(entropies, dtype=torch.float64)
    mask = torch.ones(1, len(values), dtype=torch.bool)
    kept = high_entropy_mask(
        values[None], mask, entropy_threshold(values, keep_fraction=keep_fraction)
    )
    assert int(kept.sum()) == max(1, round(keep_fraction * len(values)))
    assert (
        bool(values[kept[0]].min() > values[~kept[0]].max())
        if int(kept.sum()) < len(values)
        else True
    )


@pytest.mark.slow
def test_the_threshold_is_exact_for_more_tokens_than_quantile_takes() -> None:
    count = 2**24 + 5
    entropies = torch.arange(count, dtype=torch.float64).flip(0)
    assert entropy_threshold(entropies, keep_fraction=1000 / count).item() == count - 1000
