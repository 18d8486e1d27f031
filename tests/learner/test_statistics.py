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
    statistics.add_common(norm=(weight * 3).sum())
    held = [*statistics._sums.values(), *statistics._maxima.values(), *statistics._common.values()]
    assert [tensor.requires_grad for tensor in held] == [False, False, False]
    assert statistics.sum("loss") == pytest.approx(4.0)


def test_what_all_learners_count_alike_is_added_up_on_its_own() -> None:
    statistics = TokenStatistics()
    for loss in (1.0, 3.0):
        statistics.add_common(minibatches=1, gradient_norm=torch.tensor(loss / 2))
        statistics.add(policy_loss=loss)
    assert statistics.mean("policy_loss", over="minibatches") == 2.0
    assert statistics.mean("gradient_norm", over="minibatches") == 1.0


def test_with_one_learner_the_totals_of_all_are_its_own() -> None:
    statistics = TokenStatistics()
    statistics.add(tokens=torch.tensor(3), entropy_sum=torch.tensor(1.5, dtype=torch.float64))
    statistics.add_common(minibatches=2)
    statistics.maximum(ratio_max=torch.tensor(1.25), gap_max=torch.tensor(-2.0))
    for _ in range(2):
        statistics.reduce()
        assert (
            statistics.sum("tokens"),
            statistics.mean("entropy_sum"),
            statistics.sum("minibatches"),
        ) == (3, 0.5, 2)
        assert (statistics.max("ratio_max"), statistics.max("gap_max")) == (1.25, -2.0)


def test_asking_for_a_total_does_not_make_it_one() -> None:
    statistics = TokenStatistics()
    statistics.add(tokens=0)
    statistics.add_common(minibatches=1)
    assert (statistics.sum("kl_sum"), statistics.mean("kl_sum")) == (0.0, 0.0)
    assert [statistics.has(name) for name in ("tokens", "minibatches", "kl_sum")] == [
        True,
        True,
        False,
    ]
