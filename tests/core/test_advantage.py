from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_dapo.core import (
    ADVANTAGE_ESTIMATORS,
    BATCH_ESTIMATORS,
    batch_std_advantages,
    group_advantages,
    has_signal,
    reinforce_baseline_advantages,
)

QUICK = settings(derandomize=True, max_examples=50)
NAN = math.nan

# Quarters are exact in binary, so that a property fails for its own reason and not for a rounded
# input.
rewards_of_a_group = st.lists(st.integers(-20, 20).map(lambda n: n / 4), min_size=2, max_size=16)


def float64(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def assert_equal(actual: torch.Tensor, expected: list[float], *, rtol: float = 1e-14) -> None:
    torch.testing.assert_close(actual, float64(expected), rtol=rtol, atol=0)


def test_advantages_divide_by_the_samples_standard_deviation_plus_a_millionth() -> None:
    # Mean -1/2, squared deviations 9/4 + 3 * 1/4 = 3, divided by 4 - 1: the standard deviation is 1
    # (ddof 0: 0.866).
    expected = [1.5 / 1.000001, -0.5 / 1.000001, -0.5 / 1.000001, -0.5 / 1.000001]
    assert_equal(group_advantages(float64([1, -1, -1, -1])), expected)


def test_the_millionth_shows_where_the_deviation_is_small() -> None:
    # Deviations of 1e-5 either side: std = sqrt(2) * 1e-5.
    expected = 1e-5 / (math.sqrt(2) * 1e-5 + 1e-6)
    assert_equal(group_advantages(float64([0.0, 2e-5])), [-expected, expected], rtol=1e-10)


def test_advantages_without_the_standard_deviation_are_centred_rewards() -> None:
    assert_equal(
        group_advantages(float64([1, -1, -1, -1]), normalize_by_std=False), [1.5, -0.5, -0.5, -0.5]
    )


def test_the_leave_one_out_baseline_is_the_mean_of_the_others() -> None:
    # Means of the others: (0 + 2 + 5) / 3, (1 + 2 + 5) / 3, (1 + 0 + 5) / 3, (1 + 0 + 2) / 3.
    rewards = float64([1.0, 0.0, 2.0, 5.0])
    expected = [1 - 7 / 3, 0 - 8 / 3, 2 - 6 / 3, 5 - 3 / 3]
    actual = group_advantages(rewards, normalize_by_std=False, leave_one_out=True)
    torch.testing.assert_close(actual, float64(expected), rtol=1e-14, atol=1e-14)
    # Of all four the mean is 2 and the deviation the root of (1 + 4 + 0 + 9) / 3.
    scaled = [a / (math.sqrt(14 / 3) + 1e-6) for a in expected]
    torch.testing.assert_close(
        group_advantages(rewards, leave_one_out=True), float64(scaled), rtol=1e-14, atol=1e-14
    )


def test_the_leave_one_out_advantages_of_two_are_their_differences() -> None:
    assert_equal(
        group_advantages(float64([1.0, -0.5]), normalize_by_std=False, leave_one_out=True),
        [1.5, -1.5],
    )


def test_all_estimators_are_there() -> None:
    assert ADVANTAGE_ESTIMATORS == (
        "group",
        "leave_one_out",
        "batch_std",
        "reinforce_plus_plus_baseline",
        "gae",
    )


@pytest.mark.parametrize("leave_one_out", [True, False])
@pytest.mark.parametrize("normalize_by_std", [True, False])
@pytest.mark.parametrize("reward", [0.0, 1.0, -1.0, 0.1, -1 / 3, 1e9 / 7])
@pytest.mark.parametrize("size", [2, 3, 7, 16])
def test_equal_rewards_give_advantages_of_exactly_zero(
    reward: float, size: int, normalize_by_std: bool, leave_one_out: bool
) -> None:
    actual = group_advantages(
        float64([reward] * size), normalize_by_std=normalize_by_std, leave_one_out=leave_one_out
    )
    assert actual.tolist() == [0.0] * size


def test_rewards_equal_up_to_rounding_give_advantages_of_exactly_zero() -> None:
    rewards = float64([0.1 + 0.2, 0.3, 0.3, 0.3])
    assert rewards.std() > 0
    assert group_advantages(rewards).tolist() == [0.0] * 4


@pytest.mark.parametrize("leave_one_out", [True, False])
@pytest.mark.parametrize("normalize_by_std", [True, False])
def test_missing_rewards_count_neither_in_the_mean_nor_in_the_deviation(
    normalize_by_std: bool, leave_one_out: bool
) -> None:
    settings = {"normalize_by_std": normalize_by_std, "leave_one_out": leave_one_out}
    known = group_advantages(float64([1, -1, -1, -1]), **settings).tolist()
    actual = group_advantages(float64([NAN, 1, -1, NAN, -1, -1]), **settings)
    assert actual.tolist() == [0.0, known[0], known[1], 0.0, known[2], known[3]]


@pytest.mark.parametrize(
    "rewards", [[], [0.7], [NAN], [NAN, NAN], [NAN, 0.7], [0.7, NAN, 0.7], [0.2, NAN, 0.2]]
)
def test_groups_that_compare_nothing_have_zero_advantages(rewards: list[float]) -> None:
    assert not has_signal(float64(rewards))
    for leave_one_out in (True, False):
        assert group_advantages(float64(rewards), leave_one_out=leave_one_out).tolist() == [
            0.0
        ] * len(rewards)


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([0.0, 1e-6], False),
        ([0.0, 1.01e-6], True),
        ([-1.0, 1.0], True),
        ([NAN, -1.0, 1.0], True),
        ([NAN, 1.0], False),
    ],
)
def test_a_signal_is_a_spread_of_more_than_a_millionth(
    rewards: list[float], expected: bool
) -> None:
    assert has_signal(float64(rewards)) is expected


def test_float32_rewards_are_computed_in_float64() -> None:
    rewards = torch.tensor([1.0, 0.25, -0.5])
    assert group_advantages(rewards).dtype == torch.float64
    assert torch.equal(group_advantages(rewards), group_advantages(rewards.double()))


@QUICK
@given(
    rewards=rewards_of_a_group,
    shift=st.integers(-1000, 1000),
    normalize_by_std=st.booleans(),
    leave_one_out=st.booleans(),
)
def test_shifting_all_rewards_changes_no_advantage(
    rewards: list[float], shift: int, normalize_by_std: bool, leave_one_out: bool
) -> None:
    settings = {"normalize_by_std": normalize_by_std, "leave_one_out": leave_one_out}
    before = group_advantages(float64(rewards), **settings)
    after = group_advantages(float64(rewards) + shift, **settings)
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)


@QUICK
@given(rewards=rewards_of_a_group, leave_one_out=st.booleans(), data=st.data())
def test_permuting_a_group_permutes_its_advantages(
    rewards: list[float], leave_one_out: bool, data: st.DataObject
) -> None:
    order = list(data.draw(st.permutations(range(len(rewards)))))
    permuted = group_advantages(float64(rewards)[order], leave_one_out=leave_one_out)
    expected = group_advantages(float64(rewards), leave_one_out=leave_one_out)[order]
    torch.testing.assert_close(permuted, expected, rtol=1e-12, atol=1e-12)


@QUICK
@given(rewards=rewards_of_a_group)
def test_advantages_sum_to_zero_and_keep_the_order_of_rewards(rewards: list[float]) -> None:
    advantages = group_advantages(float64(rewards))
    assert float(advantages.sum()) == pytest.approx(0.0, abs=1e-10)
    ranked = advantages[float64(rewards).argsort(stable=True)]
    assert bool((ranked.diff() >= 0).all())
    assert bool((advantages != 0).any()) is (len(set(rewards)) > 1)


# Over the batch

# Two groups, one response of the second without a reward: means 0 and -1/2.
BATCH = [[1.0, -1.0, 1.0, -1.0], [-1.0, -1.0, 0.5, NAN]]


def test_the_batchs_deviation_divides_every_group_by_hand() -> None:
    # seven rewards: their sum is -3/2 and the sum of their squares 25/4
    std = ((25 / 4 - (3 / 2) ** 2 / 7) / 6) ** 0.5
    expected = float64([[1, -1, 1, -1], [-0.5, -0.5, 1, 0]]) / (std + 1e-6)
    torch.testing.assert_close(
        batch_std_advantages(float64(BATCH)), expected, rtol=1e-12, atol=1e-14
    )


def test_reinforce_with_baseline_divides_by_the_deviation_of_the_differences_by_hand() -> None:
    # differences 1, -1, 1, -1, -1/2, -1/2, 1, whose sum is 0 and whose squares add up to 11/2
    std = (11 / 2 / 6) ** 0.5
    expected = float64([[1, -1, 1, -1], [-0.5, -0.5, 1, 0]]) / (std + 1e-6)
    torch.testing.assert_close(
        reinforce_baseline_advantages(float64(BATCH)), expected, rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("name", BATCH_ESTIMATORS)
def test_groups_may_come_in_any_order_and_be_padded(name: str) -> None:
    rewards = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    estimate = BATCH_ESTIMATORS[name]
    expected = estimate(rewards)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(estimate(rewards[order]), expected[order], rtol=1e-12, atol=1e-14)
    wide = torch.nn.functional.pad(rewards, (0, 2), value=NAN)
    torch.testing.assert_close(estimate(wide)[:, :4], expected, rtol=1e-12, atol=1e-14)
    assert not estimate(wide)[:, 4:].any()


@pytest.mark.parametrize("name", BATCH_ESTIMATORS)
@pytest.mark.parametrize(
    "rewards",
    [[[0.1, 0.1, 0.1]] * 2, [[NAN, NAN]], [[1.0, NAN], [NAN, 0.5]], [[0.3, 0.3 + 1e-8]]],
)
def test_a_batch_without_a_signal_has_advantages_of_exactly_zero(
    name: str, rewards: list[list[float]]
) -> None:
    advantages = BATCH_ESTIMATORS[name](float64(rewards))
    assert advantages.tolist() == torch.zeros_like(advantages).tolist()


@pytest.mark.parametrize("name", BATCH_ESTIMATORS)
def test_a_group_without_a_signal_counts_in_the_batch_and_has_no_advantage(name: str) -> None:
    rewards = float64([[1.0, -1.0], [0.7, 0.7]])
    advantages = BATCH_ESTIMATORS[name](rewards)
    assert advantages[1].tolist() == [0.0, 0.0]
    values = rewards if name == "batch_std" else float64([1.0, -1.0, 0.0, 0.0])
    assert advantages[0, 0].item() == pytest.approx(1 / (values.std().item() + 1e-6), rel=1e-12)
