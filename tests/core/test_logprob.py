from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rllib_dapo.core import logprob_and_entropy


def close(actual: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(
        actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=1e-13
    )


def test_log_probabilities_are_those_of_the_softmax() -> None:
    logits = torch.tensor([[1.0, 2.0, 5.0]], dtype=torch.float64).log().expand(3, 3) + 7.0
    logprobs, _ = logprob_and_entropy(logits, torch.tensor([0, 1, 2]), temperature=1.0)
    close(logprobs, [math.log(1 / 8), math.log(2 / 8), math.log(5 / 8)])


def test_the_temperature_divides_the_logits() -> None:
    # Half of a logarithm is that of the root: 1, 4, 9 become 1, 2, 3 of 6.
    logits = torch.tensor([[1.0, 4.0, 9.0]], dtype=torch.float64).log().expand(3, 3)
    logprobs, entropy = logprob_and_entropy(logits, torch.tensor([0, 1, 2]), temperature=2.0)
    close(logprobs, [math.log(1 / 6), math.log(1 / 3), math.log(1 / 2)])
    close(entropy, [math.log(6) / 6 + math.log(3) / 3 + math.log(2) / 2] * 3)


def test_entropies_worked_by_hand() -> None:
    probabilities = torch.tensor(
        [[0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.125, 0.125]], dtype=torch.float64
    )
    _, entropy = logprob_and_entropy(
        probabilities.log() - 3.0, torch.tensor([0, 0]), temperature=1.0
    )
    close(entropy, [math.log(4), 1.75 * math.log(2)])


def test_a_certain_distribution_has_entropy_zero_and_stays_finite() -> None:
    logits = torch.tensor([[1000.0, -1000.0], [-1000.0, 1000.0]], dtype=torch.float64)
    logprobs, entropy = logprob_and_entropy(logits, torch.tensor([0, 0]), temperature=1.0)
    assert logprobs.tolist() == [0.0, -2000.0]
    assert entropy.tolist() == [0.0, 0.0]


def test_the_gradient_is_one_hot_minus_softmax_over_the_temperature() -> None:
    logits = torch.tensor([[1.0, 4.0, 9.0]], dtype=torch.float64).log().requires_grad_()
    logprobs, _ = logprob_and_entropy(logits, torch.tensor([1]), temperature=2.0)
    (gradient,) = torch.autograd.grad(logprobs.sum(), logits)
    close(gradient[0], [-1 / 12, (1 - 1 / 3) / 2, -1 / 4])


def test_the_entropys_gradient_is_minus_p_times_log_p_plus_entropy_over_the_temperature() -> None:
    logits = torch.tensor([[1.0, 4.0, 9.0]], dtype=torch.float64).log().requires_grad_()
    _, entropy = logprob_and_entropy(logits, torch.tensor([1]), temperature=2.0)
    (gradient,) = torch.autograd.grad(entropy.sum(), logits)
    h = entropy.item()
    close(gradient[0], [-(p * (math.log(p) + h)) / 2.0 for p in (1 / 6, 2 / 6, 3 / 6)])


@pytest.mark.parametrize(("of_logprob", "of_entropy"), [(1.0, 0.0), (0.0, 1.0), (0.7, -0.3)])
def test_both_gradients_are_finite_differences(of_logprob: float, of_entropy: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = (3.0 * torch.randn(4, 7, dtype=torch.float64, generator=generator)).requires_grad_()
    targets = torch.tensor([0, 6, 3, 3])

    def mixture(logits: Tensor) -> Tensor:
        logprobs, entropy = logprob_and_entropy(logits, targets, temperature=0.7)
        return of_logprob * logprobs + of_entropy * entropy

    assert torch.autograd.gradcheck(mixture, (logits,))


@pytest.mark.parametrize("lowest", [-math.inf, torch.finfo(torch.float32).min, -1e30])
def test_words_that_may_not_be_used_have_no_part_in_value_or_gradient(lowest: float) -> None:
    allowed = torch.tensor([[0.3, -1.2, 2.0], [1e4, 0.0, -1e4]], requires_grad=True)
    targets = torch.tensor([2, 1])
    logits = torch.cat([allowed, torch.full((2, 2), lowest)], dim=-1)
    actual = logprob_and_entropy(logits, targets, temperature=0.5)
    expected = logprob_and_entropy(allowed, targets, temperature=0.5)
    torch.testing.assert_close(actual, expected)
    upstream = (torch.tensor([3.0, -5.0]), torch.tensor([-7.0, 11.0]))
    (gradient,) = torch.autograd.grad(actual, allowed, upstream, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, allowed, upstream)[0])
    assert bool(gradient.isfinite().all())


def test_a_target_that_may_not_be_used_is_finite_too() -> None:
    logits = torch.tensor([[0.0, -math.inf]], requires_grad=True)
    logprobs, entropy = logprob_and_entropy(logits, torch.tensor([1]), temperature=1.0)
    (gradient,) = torch.autograd.grad(logprobs.sum() + entropy.sum(), logits)
    for value in (logprobs, entropy, gradient):
        assert bool(value.isfinite().all())


def test_large_logits_cost_the_entropy_no_precision() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]]) + 4096.0
    _, entropy = logprob_and_entropy(logits, torch.tensor([0]), temperature=1.0)
    _, expected = logprob_and_entropy(logits.double(), torch.tensor([0]), temperature=1.0)
    torch.testing.assert_close(entropy.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_precision_logits_are_computed_in_float32(
    given: torch.dtype, computed: torch.dtype
) -> None:
    logits = torch.linspace(-3, 3, 64).to(given)[None]
    target = torch.tensor([5])
    logprobs, entropy = logprob_and_entropy(logits, target, temperature=0.7)
    assert logprobs.dtype == entropy.dtype == computed
    reference, _ = logprob_and_entropy(logits.double(), target, temperature=0.7)
    torch.testing.assert_close(logprobs.double(), reference, rtol=1e-6, atol=1e-6)


def test_autocast_costs_the_entropy_no_precision() -> None:
    logits = 3.0 * torch.randn(4, 1000, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = logprob_and_entropy(logits, targets, temperature=1.0)
    torch.testing.assert_close(
        actual, logprob_and_entropy(logits, targets, temperature=1.0), rtol=0, atol=0
    )


def test_an_output_that_the_loss_does_not_use_costs_nothing_in_the_backward_pass() -> None:
    logits = torch.randn(8, 1000, dtype=torch.float64, requires_grad=True)
    logprobs, entropy = logprob_and_entropy(logits, torch.arange(8), temperature=1.0)

    def operations(*outputs: Tensor) -> list[str]:
        with torch.profiler.profile() as profile:
            torch.autograd.grad(outputs, logits, [torch.ones(8)] * len(outputs), retain_graph=True)
        return [event.name for event in profile.events() if event.name.startswith("aten::")]

    assert len(operations(logprobs)) < len(operations(logprobs, entropy))
    assert len(operations(entropy)) <= len(operations(logprobs, entropy))
