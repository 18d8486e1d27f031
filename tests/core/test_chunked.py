from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rllib_dapo.core import chunked_logprobs, logprob_and_entropy
from rllib_dapo.core.chunked import is_plain_linear

TOKENS, HIDDEN, VOCABULARY = 10, 6, 23


@pytest.fixture
def problem() -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states `[N, H]`, a head's weight `[V, H]` (both with gradient) and targets `[N]`."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(
        TOKENS, HIDDEN, dtype=torch.float64, generator=generator, requires_grad=True
    )
    weight = torch.randn(
        VOCABULARY, HIDDEN, dtype=torch.float64, generator=generator, requires_grad=True
    )
    return hidden, weight, torch.randint(VOCABULARY, (TOKENS,), generator=generator)


@pytest.mark.parametrize("chunk_tokens", [1, 3, 5, TOKENS - 1, TOKENS, TOKENS + 1])
def test_chunks_change_neither_values_nor_gradients(
    problem: tuple[Tensor, Tensor, Tensor], chunk_tokens: int
) -> None:
    hidden, weight, targets = problem
    expected, expected_entropy = logprob_and_entropy(hidden @ weight.T, targets, temperature=0.8)
    logprobs, entropy = chunked_logprobs(
        hidden, lambda rows: rows @ weight.T, targets, temperature=0.8, chunk_tokens=chunk_tokens
    )
    torch.testing.assert_close(logprobs, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(entropy, expected_entropy, rtol=1e-13, atol=1e-13)

    upstream = torch.linspace(-1, 1, TOKENS, dtype=torch.float64)
    for outputs, references, weights in (
        ((logprobs,), (expected,), (upstream,)),
        ((entropy,), (expected_entropy,), (upstream,)),
        ((logprobs, entropy), (expected, expected_entropy), (upstream, upstream.flip(0))),
    ):
        actual = torch.autograd.grad(outputs, (hidden, weight), weights, retain_graph=True)
        reference = torch.autograd.grad(references, (hidden, weight), weights, retain_graph=True)
        torch.testing.assert_close(actual, reference, rtol=1e-12, atol=1e-12)


def test_a_head_on_frozen_hidden_states_gets_the_unchunked_gradient(
    problem: tuple[Tensor, Tensor, Tensor],
) -> None:
    hidden, weight, targets = problem
    frozen = hidden.detach()
    logprobs, _ = chunked_logprobs(
        frozen, lambda rows: rows @ weight.T, targets, temperature=1.0, chunk_tokens=3
    )
    expected, _ = logprob_and_entropy(frozen @ weight.T, targets, temperature=1.0)
    (actual,) = torch.autograd.grad(logprobs.sum(), weight)
    torch.testing.assert_close(
        actual, torch.autograd.grad(expected.sum(), weight)[0], rtol=1e-13, atol=1e-13
    )


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


def test_no_tokens_give_empty_results_that_still_reach_the_head(
    problem: tuple[Tensor, Tensor, Tensor],
) -> None:
    hidden, weight, targets = problem
    logprobs, entropy = chunked_logprobs(
        hidden[:0], lambda rows: rows @ weight.T, targets[:0], temperature=1.0, chunk_tokens=4
    )
    assert logprobs.shape == entropy.shape == (0,)
    (gradient,) = torch.autograd.grad(logprobs.sum(), weight)
    assert torch.equal(gradient, torch.zeros_like(weight))


class Scaled(nn.Linear):
    """A head that does more than its base class."""

    def forward(self, rows: Tensor) -> Tensor:
        return 2.0 * super().forward(rows)


def hooked(head: nn.Linear) -> nn.Linear:
    """As ZeRO's stage 3 does: the weight is gathered as the module is called."""
    head.register_forward_pre_hook(lambda module, inputs: None)
    return head


@pytest.mark.parametrize(
    ("make_head", "expected"),
    [
        (lambda: nn.Linear(HIDDEN, VOCABULARY), True),
        (lambda: nn.Linear(HIDDEN, VOCABULARY, bias=False), True),
        (lambda: hooked(nn.Linear(HIDDEN, VOCABULARY)), False),
        (lambda: Scaled(HIDDEN, VOCABULARY), False),
        (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(HIDDEN, VOCABULARY)), False),
        (lambda: nn.Sequential(nn.Linear(HIDDEN, VOCABULARY)), False),
        (nn.Identity, False),
    ],
)
def test_a_head_is_plain_where_calling_it_is_a_product_and_no_more(
    make_head: Callable[[], nn.Module], expected: bool
) -> None:
    assert is_plain_linear(make_head()) is expected


@pytest.mark.parametrize("chunk_tokens", [4, TOKENS])
@pytest.mark.parametrize("make_head", [nn.Linear, lambda *sizes: hooked(nn.Linear(*sizes)), Scaled])
def test_every_kind_of_head_gives_its_own_log_probabilities_and_gradients(
    problem: tuple[Tensor, Tensor, Tensor],
    make_head: Callable[[int, int], nn.Module],
    chunk_tokens: int,
) -> None:
    hidden, _, targets = problem
    torch.manual_seed(0)
    head = make_head(HIDDEN, VOCABULARY).double()

    expected = logprob_and_entropy(head(hidden), targets, temperature=0.8)
    actual = chunked_logprobs(hidden, head, targets, temperature=0.8, chunk_tokens=chunk_tokens)
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-13)

    inputs, upstream = (
        (hidden, *head.parameters()),
        (torch.linspace(-1, 1, TOKENS), torch.linspace(2, 1, TOKENS)),
    )
    torch.testing.assert_close(
        torch.autograd.grad(actual, inputs, upstream),
        torch.autograd.grad(expected, inputs, upstream),
        rtol=1e-12,
        atol=1e-12,
    )
