from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rllib_dapo.core import chunked_logprobs, logprob_and_entropy

TOKENS, HIDDEN, VOCABULARY = 10, 6, 23


def close(actual: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=1e-13)


@pytest.fixture
def problem() -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states `[N, H]`, a head's weight `[V, H]` (both with gradient) and targets `[N]`."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, HIDDEN, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(VOCABULARY, HIDDEN, dtype=torch.float64, generator=generator, requires_grad=True)
    return hidden, weight, torch.randint(VOCABULARY, (TOKENS,), generator=generator)


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
    probabilities = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.125, 0.125]], dtype=torch.float64)
    _, entropy = logprob_and_entropy(probabilities.log() - 3.0, torch.tensor([0, 0]), temperature=1.0)
    close(entropy, [math.log(4), 1.75 * math.log(2)])


def test_a_certain_distribution_has_entropy_zero_and_stays_finite() -> None:
    logits = torch.tensor([[1000.0, -1000.0], [-1000.0, 1000.0]], dtype=torch.float64)
    logprobs, entropy = logprob_and_entropy(logits, torch.tensor([0, 0]), temperature=1.0)
    assert logprobs.tolist() == [0.0, -2000.0]
    assert entropy.tolist() == [0.0, 0.0]


def test_the_gradient_is_one_hot_minus_softmax_over_the_temperature() -> None:
    logits = torch.tensor([[1.0, 4.0, 9.0]], dtype=torch.float64).log().requires_grad_()
    logprobs, entropy = logprob_and_entropy(logits, torch.tensor([1]), temperature=2.0)
    assert not entropy.requires_grad
    (gradient,) = torch.autograd.grad(logprobs.sum(), logits)
    close(gradient[0], [-1 / 12, (1 - 1 / 3) / 2, -1 / 4])


@pytest.mark.parametrize(
    ("given", "computed"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64, torch.float64)],
)
def test_half_precision_logits_are_computed_in_float32(given: torch.dtype, computed: torch.dtype) -> None:
    logits = torch.linspace(-3, 3, 64).to(given)[None]
    target = torch.tensor([5])
    logprobs, entropy = logprob_and_entropy(logits, target, temperature=0.7)
    assert logprobs.dtype == entropy.dtype == computed
    reference, _ = logprob_and_entropy(logits.double(), target, temperature=0.7)
    torch.testing.assert_close(logprobs.double(), reference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("chunk_tokens", [1, 3, 5, TOKENS - 1, TOKENS, TOKENS + 1])
def test_chunks_change_neither_values_nor_gradients(problem: tuple[Tensor, Tensor, Tensor], chunk_tokens: int) -> None:
    hidden, weight, targets = problem
    expected, expected_entropy = logprob_and_entropy(hidden @ weight.T, targets, temperature=0.8)
    logprobs, entropy = chunked_logprobs(
        hidden, lambda rows: rows @ weight.T, targets, temperature=0.8, chunk_tokens=chunk_tokens
    )
    torch.testing.assert_close(logprobs, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(entropy, expected_entropy, rtol=1e-13, atol=1e-13)
    assert not entropy.requires_grad

    upstream = torch.linspace(-1, 1, TOKENS, dtype=torch.float64)
    actual = torch.autograd.grad(logprobs, (hidden, weight), upstream)
    for a, e in zip(actual, torch.autograd.grad(expected, (hidden, weight), upstream), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-13, atol=1e-13)


def test_a_head_on_frozen_hidden_states_gets_the_unchunked_gradient(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    hidden, weight, targets = problem
    frozen = hidden.detach()
    logprobs, _ = chunked_logprobs(frozen, lambda rows: rows @ weight.T, targets, temperature=1.0, chunk_tokens=3)
    expected, _ = logprob_and_entropy(frozen @ weight.T, targets, temperature=1.0)
    (actual,) = torch.autograd.grad(logprobs.sum(), weight)
    torch.testing.assert_close(actual, torch.autograd.grad(expected.sum(), weight)[0], rtol=1e-13, atol=1e-13)


def test_logits_are_held_for_one_chunk_at_a_time_and_never_until_the_backward_pass(
    problem: tuple[Tensor, Tensor, Tensor],
) -> None:
    hidden, weight, targets = problem
    heights: list[int] = []
    kept: list[torch.Size] = []

    def head(rows: Tensor) -> Tensor:
        heights.append(len(rows))
        return rows @ weight.T

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logprobs, _ = chunked_logprobs(hidden, head, targets, temperature=1.0, chunk_tokens=4)
    assert heights == [4, 4, 2]
    assert not [shape for shape in kept if shape[-1:] == (VOCABULARY,)]

    torch.autograd.backward(logprobs.sum())
    assert sorted(heights) == [2, 2, 4, 4, 4, 4]


def test_a_single_chunk_is_not_computed_twice(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    hidden, weight, targets = problem
    heights: list[int] = []

    def head(rows: Tensor) -> Tensor:
        heights.append(len(rows))
        return rows @ weight.T

    logprobs, _ = chunked_logprobs(hidden, head, targets, temperature=1.0, chunk_tokens=TOKENS)
    torch.autograd.backward(logprobs.sum())
    assert heights == [TOKENS]


def test_no_tokens_give_empty_results_that_still_reach_the_head(problem: tuple[Tensor, Tensor, Tensor]) -> None:
    hidden, weight, targets = problem
    logprobs, entropy = chunked_logprobs(
        hidden[:0], lambda rows: rows @ weight.T, targets[:0], temperature=1.0, chunk_tokens=4
    )
    assert logprobs.shape == entropy.shape == (0,)
    (gradient,) = torch.autograd.grad(logprobs.sum(), weight)
    assert torch.equal(gradient, torch.zeros_like(weight))
