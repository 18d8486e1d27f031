from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from rllib_dapo.core import KL_ESTIMATORS, kl_estimates

if TYPE_CHECKING:
    from rllib_dapo.core import KLEstimator

WORDS = 7


@pytest.fixture
def policies() -> tuple[Tensor, Tensor]:
    """Log-probabilities `[1, V]` of all words under a policy, with gradient, and a reference."""
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(2, 1, WORDS, dtype=torch.float64, generator=generator)
    return policy.requires_grad_(), reference.log_softmax(-1)


def expectation(logits: Tensor, reference: Tensor, estimator: KLEstimator) -> Tensor:
    """The mean over infinitely many samples: each estimate times the word's fixed probability."""
    logprobs = logits.log_softmax(-1)
    everywhere = torch.ones_like(logprobs, dtype=torch.bool)
    return (
        logprobs.detach().exp() * kl_estimates(logprobs, reference, everywhere, estimator=estimator)
    ).sum()


def divergence(logits: Tensor, reference: Tensor) -> Tensor:
    logprobs = logits.log_softmax(-1)
    return (logprobs.exp() * (logprobs - reference)).sum()


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        ("k1", [math.log(2), 0.0, -math.log(4)]),
        ("k2", [math.log(2) ** 2 / 2, 0.0, math.log(4) ** 2 / 2]),
        ("k3", [0.5 - 1 + math.log(2), 0.0, 4.0 - 1 - math.log(4)]),
    ],
)
def test_estimates_of_tokens_twice_as_likely_and_a_quarter_as_likely(
    estimator: KLEstimator, expected: list[float]
) -> None:
    logprobs = torch.tensor([[0.5, 0.3, 0.1, 0.9]], dtype=torch.float64).log()
    reference = torch.tensor([[0.25, 0.3, 0.4, 0.1]], dtype=torch.float64).log()
    mask = torch.tensor([[True, True, True, False]])
    actual = kl_estimates(logprobs, reference, mask, estimator=estimator)
    torch.testing.assert_close(
        actual[0], torch.tensor([*expected, 0.0], dtype=torch.float64), rtol=1e-12, atol=1e-12
    )


def test_all_three_estimators_are_there() -> None:
    assert KL_ESTIMATORS == ("k1", "k2", "k3")


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_are_the_divergence_in_expectation(
    policies: tuple[Tensor, Tensor], estimator: KLEstimator
) -> None:
    assert expectation(*policies, estimator).item() == pytest.approx(
        divergence(*policies).item(), rel=1e-12
    )


def test_the_gradient_of_k1_is_zero_in_expectation(policies: tuple[Tensor, Tensor]) -> None:
    (gradient,) = torch.autograd.grad(expectation(*policies, "k1"), policies[0])
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-15)


def test_the_gradient_of_k2_is_that_of_the_divergence_in_expectation(
    policies: tuple[Tensor, Tensor],
) -> None:
    (actual,) = torch.autograd.grad(expectation(*policies, "k2"), policies[0])
    (expected,) = torch.autograd.grad(divergence(*policies), policies[0])
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)


def test_k3_keeps_its_precision_where_the_policies_are_close() -> None:
    # d^2 / 2 to leading order: exp(-d) - 1 + d, written out in float32, would be 0 or 6e-8.
    logprobs = torch.tensor([[-1.0 + 2**-12]])
    estimate = kl_estimates(
        logprobs, torch.tensor([[-1.0]]), torch.tensor([[True]]), estimator="k3"
    )
    assert estimate.item() == pytest.approx(2**-25, rel=2e-3)


@pytest.mark.parametrize("difference", [-3.0, -5.0, -12.0, -30.0, -1e6])
def test_k3_of_one_token_never_exceeds_ten(difference: float) -> None:
    logprobs = torch.tensor([[difference]], dtype=torch.float64, requires_grad=True)
    estimate = kl_estimates(
        logprobs, torch.zeros_like(logprobs), torch.tensor([[True]]), estimator="k3"
    ).sum()
    exact = math.expm1(-difference) + difference if difference > -20 else math.inf
    assert estimate.item() == pytest.approx(min(exact, 10.0))
    (gradient,) = torch.autograd.grad(estimate, logprobs)
    assert gradient.item() == pytest.approx(1 - math.exp(-difference) if exact < 10 else 0.0)


@pytest.mark.parametrize("difference", [-3.0, 25.0, -30.0, 500.0, -4000.0])
def test_k2_is_not_clamped(difference: float) -> None:
    logprobs = torch.tensor([[difference]], dtype=torch.float64, requires_grad=True)
    estimate = kl_estimates(
        logprobs, torch.zeros_like(logprobs), torch.tensor([[True]]), estimator="k2"
    ).sum()
    assert estimate.item() == pytest.approx(difference**2 / 2)
    assert torch.autograd.grad(estimate, logprobs)[0].item() == pytest.approx(difference)


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
@pytest.mark.parametrize(
    ("logprob", "reference"),
    [(-1e300, -1.0), (-1.0, -math.inf), (-math.inf, -1.0), (-math.inf, -math.inf)],
)
def test_impossible_tokens_give_neither_infinity_nor_nan(
    estimator: KLEstimator, logprob: float, reference: float
) -> None:
    policy = torch.tensor([[logprob]], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([[reference]], dtype=torch.float64)
    estimate = kl_estimates(policy, other, torch.tensor([[True]]), estimator=estimator).sum()
    assert bool(estimate.isfinite())
    assert bool(torch.autograd.grad(estimate, policy)[0].isfinite().all())
