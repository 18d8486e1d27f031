from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rllib_dapo.core import generalized_advantages, terminal_rewards, value_loss, whiten

QUICK = settings(derandomize=True, max_examples=50)


def float64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(actual: Tensor, expected: Any) -> None:
    torch.testing.assert_close(actual, float64(expected), rtol=1e-12, atol=1e-12)


def random_batch(seed: int, *, rows: int = 3, width: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values and a mask with holes."""
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, rows, width, dtype=torch.float64, generator=generator)
    return rewards, values, torch.rand(rows, width, generator=generator) < 0.7


class CountOperations(TorchDispatchMode):
    """Counts the tensor operations that run."""

    operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.operations += 1
        return func(*args, **(kwargs or {}))


def test_a_responses_reward_lies_on_its_last_token_with_loss() -> None:
    mask = torch.tensor(
        [[True, True, True], [True, True, False], [True, False, True], [False, False, False]]
    )
    actual = terminal_rewards(float64([1.0, -1.0, 0.5, 9.0]), mask)
    assert actual.tolist() == [[0, 0, 1.0], [0, -1.0, 0], [0, 0, 0.5], [0, 0, 0]]
    assert terminal_rewards(float64([]), mask[:0, :0]).shape == (0, 0)


def test_advantages_and_returns_by_hand_with_a_hole_in_the_mask() -> None:
    # gamma 0.9, gamma lambda 0.72. The second token is the environment's: the first one's next
    # value is 0.25.
    #
    # t = 3: delta = 2 - 1 = 1, A = 1
    # t = 2: delta = 1 + 0.9 * 1 - 0.25 = 1.65, A = 1.65 + 0.72 * 1 = 2.37
    # t = 0: delta = 0 + 0.9 * 0.25 - 0.5 = -0.275, A = -0.275 + 0.72 * 2.37 = 1.4314
    advantages, returns = generalized_advantages(
        float64([[0.0, 7.0, 1.0, 2.0, math.nan]]),
        float64([[0.5, 8.0, 0.25, 1.0, math.nan]]),
        torch.tensor([[True, False, True, True, False]]),
        gamma=0.9,
        gae_lambda=0.8,
    )
    close(advantages, [[1.4314, 0.0, 2.37, 1.0, 0.0]])
    close(returns, [[1.9314, 0.0, 2.62, 2.0, 0.0]])


def test_without_discount_every_tokens_return_is_the_terminal_reward() -> None:
    _, values, mask = random_batch(0)
    mask[:, 0] = True
    reward = float64([1.0, -1.0, 0.25])
    advantages, returns = generalized_advantages(
        terminal_rewards(reward, mask), values, mask, gamma=1.0, gae_lambda=1.0
    )
    torch.testing.assert_close(returns, torch.where(mask, reward[:, None], 0.0))
    torch.testing.assert_close(advantages, torch.where(mask, reward[:, None] - values, 0.0))


@QUICK
@given(seed=st.integers(0, 2**32 - 1), gamma=st.floats(0, 1), gae_lambda=st.floats(0, 1))
def test_an_advantage_is_the_discounted_sum_of_the_later_errors(
    seed: int, gamma: float, gae_lambda: float
) -> None:
    rewards, values, mask = random_batch(seed)
    expected = torch.zeros_like(values)
    for row, kept in enumerate(mask):
        places = kept.nonzero().flatten().tolist()
        following = [*(values[row, t].item() for t in places[1:]), 0.0]
        errors = [
            rewards[row, t].item() + gamma * after - values[row, t].item()
            for t, after in zip(places, following, strict=True)
        ]
        for i, t in enumerate(places):
            expected[row, t] = sum(
                (gamma * gae_lambda) ** k * error for k, error in enumerate(errors[i:])
            )

    advantages, returns = generalized_advantages(
        rewards, values, mask, gamma=gamma, gae_lambda=gae_lambda
    )
    torch.testing.assert_close(advantages, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        returns, torch.where(mask, expected + values, 0.0), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 1.0), (0.999, 0.95), (1.0, 0.0)])
def test_a_long_responses_advantages_take_few_operations(gamma: float, gae_lambda: float) -> None:
    """As many as a loop over 200 of its 20,480 tokens, and they are the loop's."""
    width = 20_480
    rewards, values, mask = random_batch(0, rows=1, width=width)

    with CountOperations() as counted:
        advantages, _ = generalized_advantages(
            rewards, values, mask, gamma=gamma, gae_lambda=gae_lambda
        )
    assert counted.operations < 6 * width / 100

    expected, following, next_value = [0.0] * width, 0.0, 0.0
    for t in reversed(mask[0].nonzero().flatten().tolist()):
        error = rewards[0, t].item() + gamma * next_value - values[0, t].item()
        expected[t] = following = error + gamma * gae_lambda * following
        next_value = values[0, t].item()
    torch.testing.assert_close(advantages, float64([expected]), rtol=1e-9, atol=1e-9)


def test_advantages_have_no_gradient_and_may_be_of_nothing() -> None:
    values = torch.zeros(2, 3, requires_grad=True)
    mask = torch.ones(2, 3, dtype=torch.bool)
    for result in generalized_advantages(torch.ones(2, 3), values, mask, gamma=1.0, gae_lambda=1.0):
        assert not result.requires_grad
    for result in generalized_advantages(
        values[:0, :0], values[:0, :0], mask[:0, :0], gamma=1.0, gae_lambda=1.0
    ):
        assert result.shape == (0, 0)


def test_whitening_subtracts_the_mean_and_divides_by_the_deviation_plus_a_millionth() -> None:
    actual = whiten(
        float64([[3.0, 5.0, math.nan]]), torch.tensor([[True, True, False]]), mean=1.0, std=2.0
    )
    close(actual, [[2 / 2.000001, 4 / 2.000001, 0.0]])


def test_the_value_loss_is_half_the_weighted_squared_error() -> None:
    values = float64([[1.0, 2.0, 9.0], [0.0, -1.0, 3.0]]).requires_grad_()
    returns = float64([[3.0, 1.0, math.nan], [0.5, 1.0, 3.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])

    loss, statistics = value_loss(
        values, torch.zeros_like(values), returns, mask, float64([0.5, 0.25]), value_clip=None
    )
    # Squared errors 4, 1 and 0.25, 4, 0.
    assert loss.item() == pytest.approx(0.5 * (4 + 1) / 2 + 0.25 * (0.25 + 4) / 2)
    close(torch.autograd.grad(loss, values)[0], [[-1.0, 0.5, 0.0], [-0.125, -0.5, 0.0]])

    assert {name: value.item() for name, value in statistics.items()} == pytest.approx(
        {
            "value_loss_sum": loss.item(),
            "value_error_square_sum": 9.25,
            "return_sum": 3 + 1 + 0.5 + 1 + 3,
            "return_square_sum": 9 + 1 + 0.25 + 1 + 9,
            "value_clip_count": 0,
            "value_tokens": 5,
        }
    )


@pytest.mark.parametrize(
    ("value", "target", "expected", "gradient", "clipped"),
    [
        (1.25, 3.0, 1.75**2 / 2, -1.75, 0),  # within half of the old value 1
        (2.0, 3.0, 1.5**2 / 2, 0.0, 1),  # moved towards the return by more than that
        (2.0, 0.0, 2.0**2 / 2, 2.0, 0),  # moved away from it
        (0.0, -1.0, 1.5**2 / 2, 0.0, 1),
        (0.0, 3.0, 3.0**2 / 2, -3.0, 0),
    ],
)
def test_a_value_that_moved_far_enough_towards_its_return_has_no_gradient(
    value: float, target: float, expected: float, gradient: float, clipped: int
) -> None:
    values = float64([[value]]).requires_grad_()
    loss, statistics = value_loss(
        values,
        float64([[1.0]]),
        float64([[target]]),
        torch.tensor([[True]]),
        float64([1.0]),
        value_clip=0.5,
    )
    assert loss.item() == expected
    assert torch.autograd.grad(loss, values)[0].item() == gradient
    assert statistics["value_clip_count"].item() == clipped


@pytest.mark.parametrize("value_clip", [None, 0.2])
@pytest.mark.parametrize("garbage", [math.nan, math.inf])
def test_values_outside_the_mask_change_nothing(value_clip: float | None, garbage: float) -> None:
    returns, values, mask = random_batch(1)
    weights = float64([0.1, 0.2, 0.3])

    def evaluate(fill: float) -> tuple[Tensor, Tensor]:
        leaf = torch.where(mask, values, fill).requires_grad_()
        old = torch.where(mask, values + 0.5 * returns.sin(), fill)
        loss, _ = value_loss(
            leaf, old, torch.where(mask, returns, -fill), mask, weights, value_clip=value_clip
        )
        return loss, torch.autograd.grad(loss, leaf)[0]

    loss, gradient = evaluate(0.0)
    again, gradient_again = evaluate(garbage)
    assert again.item() == loss.item()
    assert torch.equal(gradient_again, gradient)
    assert gradient[~mask].abs().sum().item() == 0.0
