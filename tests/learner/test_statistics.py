"""Totals over an update, and what is divided by what."""

from __future__ import annotations

import pytest
import torch

from rllib_dapo.learner.statistics import TokenStatistics


def test_a_mean_is_one_division_of_two_totals() -> None:
    statistics = TokenStatistics()
    statistics.add(entropy_sum=torch.tensor(9.0), tokens=3)  # 3 a token
    statistics.add(entropy_sum=torch.tensor(1.0), tokens=torch.tensor(1))  # 1 a token
    assert statistics.sum("entropy_sum") == 10.0
    assert statistics.mean("entropy_sum") == 2.5  # the mean of means would be 2
    assert statistics.mean("entropy_sum", over="minibatches") == 0.0


def test_a_maximum_is_kept() -> None:
    statistics = TokenStatistics()
    for value in (1.0, 3.0, 2.0):
        statistics.maximum(ratio_max=torch.tensor(value))
    assert statistics.max("ratio_max") == 3.0
    statistics = TokenStatistics()
    statistics.maximum(gap=torch.tensor(-2.0))
    assert statistics.max("gap") == -2.0


def test_what_was_never_added_is_zero() -> None:
    statistics = TokenStatistics()
    assert (statistics.sum("x"), statistics.mean("x"), statistics.max("x")) == (0.0, 0.0, 0.0)


def test_totals_hold_no_graph() -> None:
    statistics, weight = TokenStatistics(), torch.ones(2, requires_grad=True)
    statistics.add(loss=(weight * 2).sum())
    statistics.maximum(loss_max=(weight * 2).max())
    held = [*statistics._sums.values(), *statistics._maxima.values()]
    assert [tensor.requires_grad for tensor in held] == [False, False]
    assert statistics.sum("loss") == pytest.approx(4.0)
