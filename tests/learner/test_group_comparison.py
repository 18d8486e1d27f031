"""Advantages by name over a batch of groups, and of an estimator of one's own."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import Any

import pytest
import torch
from torch import Tensor

from rllib_dapo import DAPOConfig
from rllib_dapo.core import BATCH_ESTIMATORS, group_advantages
from rllib_dapo.learner.group_comparison import compare_responses, try_own_estimator

GROUPS = [
    torch.tensor(rewards, dtype=torch.float64)
    for rewards in ([1.0, -1.0, 0.5], [1.0, nan, -1.0, -1.0], [0.25, 0.75])
]


def above_the_median(*, rewards: Tensor) -> Tensor:
    return rewards - rewards.nanmedian(dim=-1, keepdim=True).values


def config(estimator: Any) -> DAPOConfig:
    return DAPOConfig().training(advantage_estimator=estimator)


def test_groups_alone_are_compared_as_before() -> None:
    for estimator in ("group", "leave_one_out"):
        expected = [group_advantages(g, leave_one_out=estimator != "group") for g in GROUPS]
        found = compare_responses(GROUPS, config(estimator))
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", BATCH_ESTIMATORS)
def test_groups_of_unequal_sizes_are_one_batch(name: str) -> None:
    padded = torch.tensor(
        [[1.0, -1.0, 0.5, nan], [1.0, nan, -1.0, -1.0], [0.25, 0.75, nan, nan]],
        dtype=torch.float64,
    )
    expected = BATCH_ESTIMATORS[name](padded)
    found = compare_responses(GROUPS, config(name))
    assert [len(row) for row in found] == [3, 4, 2]
    for row, wide in zip(found, expected, strict=True):
        assert torch.equal(row, wide[: len(row)])


def test_an_own_estimator_sees_all_groups_and_the_missing_stay_zero() -> None:
    found = compare_responses(GROUPS, config(above_the_median))
    assert [row.tolist() for row in found] == [[0.5, -1.5, 0.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.5]]


def test_no_group_has_no_advantages() -> None:
    assert compare_responses([], config(above_the_median)) == []


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "another shape": (lambda *, rewards: rewards.nanmean(-1), r"gave torch.float64 \(3,\)"),
    "no tensor": (lambda *, rewards: rewards.tolist(), "gave list: it must give a tensor"),
    "complex": (lambda *, rewards: rewards * 1j, "must give real advantages"),
    "not finite": (lambda *, rewards: rewards - rewards.mean(-1, keepdim=True), "take nanmean"),
    "another argument": (lambda *, scores: scores, "raised TypeError"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_estimator_of_ones_own_is_tried_and_refused_in_one_line(case: str) -> None:
    function, said = REFUSED[case]
    with pytest.raises(ValueError, match=said) as refused:
        try_own_estimator(config(function))
    assert str(refused.value).startswith("training.advantage_estimator=<function ")
    assert "\n" not in str(refused.value)
