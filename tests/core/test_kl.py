from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from rllib_dapo.core import KL_ESTIMATORS, kl_estimates, kl_with_ratio

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


# With the ratio


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [("k1", 1.5 * math.log(0.75)), ("k3", 1.5 * (4 / 3 - 1 + math.log(0.75)))],
)
def test_an_estimate_with_the_ratio_by_hand(estimator: KLEstimator, expected: float) -> None:
    policy, old, reference = (
        torch.tensor([[p, 0.5]], dtype=torch.float64).log() for p in (0.3, 0.2, 0.4)
    )
    policy.requires_grad_()
    mask = torch.tensor([[True, False]])
    estimate = kl_with_ratio(policy, old, reference, mask, estimator=estimator)
    torch.testing.assert_close(
        estimate.detach(), torch.tensor([[expected, 0.0]], dtype=torch.float64)
    )

    # r d for k3, r (d + 1) for k1
    (gradient,) = torch.autograd.grad(estimate.sum(), policy)
    slope = 1.5 * (math.log(0.75) + (estimator == "k1"))
    torch.testing.assert_close(gradient, torch.tensor([[slope, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_with_the_ratio_estimate_and_gradient_are_unbiased_whoever_drew_the_tokens(
    policies: tuple[Tensor, Tensor], estimator: KLEstimator
) -> None:
    logits, reference = policies
    generator = torch.Generator().manual_seed(1)
    old = torch.randn(1, WORDS, dtype=torch.float64, generator=generator).log_softmax(-1)
    logprobs = logits.log_softmax(-1)
    everywhere = torch.ones_like(logprobs, dtype=torch.bool)
    estimates = kl_with_ratio(logprobs, old, reference, everywhere, estimator=estimator)
    mean = (old.exp() * estimates).sum()
    exact = divergence(logits, reference)

    assert mean.item() == pytest.approx(exact.item(), rel=1e-12)
    found, expected, plain = (
        torch.autograd.grad(value, logits, retain_graph=True)[0]
        for value in (mean, exact, expectation(logits, reference, "k3"))
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert float((plain - expected).norm()) > 0.1 * float(expected.norm())


def test_k3_with_the_ratio_has_the_gradient_of_its_finite_difference() -> None:
    generator = torch.Generator().manual_seed(2)
    policy, old, reference = torch.randn(3, 2, 4, dtype=torch.float64, generator=generator) - 2
    mask = torch.tensor([[True] * 4, [True, True, False, True]])
    assert torch.autograd.gradcheck(
        lambda x: kl_with_ratio(x, old, reference, mask, estimator="k3"),
        (policy.requires_grad_(),),
        eps=1e-6,
        atol=1e-8,
    )


@pytest.mark.parametrize("difference", [-3.0, -12.0, -30.0])
def test_with_the_ratio_a_token_that_was_given_up_is_pulled_back_by_a_bounded_gradient(
    difference: float,
) -> None:
    policy = torch.tensor([[difference]], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros_like(policy)
    # Drawn by a policy that had given it up already: the ratio is 1.
    estimate = kl_with_ratio(policy, policy.detach(), zero, zero == 0, estimator="k3").sum()
    assert torch.autograd.grad(estimate, policy)[0].item() == pytest.approx(difference)


def test_k2_with_the_ratio_is_refused() -> None:
    zero = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="k2 is biased with the ratio too"):
        kl_with_ratio(zero, zero, zero, zero == 0, estimator="k2")
