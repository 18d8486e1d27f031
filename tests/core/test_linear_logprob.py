from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rllib_dapo.core import linear_logprob, logprob_and_entropy
from rllib_dapo.core.linear_logprob import linear_logprobs

TOKENS, HIDDEN, VOCABULARY = 10, 6, 23

Problem = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture
def problem() -> Problem:
    """Hidden states `[N, H]`, weight `[V, H]`, bias `[V]` (with gradient), targets `[N]`."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((TOKENS, HIDDEN), (VOCABULARY, HIDDEN), (VOCABULARY,))
    leaves = [
        torch.randn(*s, dtype=torch.float64, generator=generator).requires_grad_() for s in shapes
    ]
    return *leaves, torch.arange(
        TOKENS
    ) * 2 + 3  # targets in the first tile, the last, and those between


@pytest.fixture(params=[1, 7, VOCABULARY, 1024])
def tile_words(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(linear_logprob, "CPU_TILE_WORDS", request.param)
    return request.param


@pytest.mark.usefixtures("tile_words")
@pytest.mark.parametrize("chunk_tokens", [1, 4, TOKENS, 100])
@pytest.mark.parametrize("has_bias", [True, False])
def test_tiles_change_neither_values_nor_gradients(
    problem: Problem, has_bias: bool, chunk_tokens: int
) -> None:
    hidden, weight, bias, targets = problem
    leaves = (hidden, weight, bias) if has_bias else (hidden, weight)
    logits = hidden @ weight.T + (bias if has_bias else 0.0)
    expected = logprob_and_entropy(logits, targets, temperature=0.8)
    actual = linear_logprobs(
        hidden,
        weight,
        bias if has_bias else None,
        targets,
        temperature=0.8,
        chunk_tokens=chunk_tokens,
    )
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=1e-13)

    upstream = (
        torch.linspace(-1, 1, TOKENS, dtype=torch.float64),
        torch.linspace(2, 1, TOKENS, dtype=torch.float64),
    )
    for used in ([0], [1], [0, 1]):
        gradients, references = (
            torch.autograd.grad(
                [side[i] for i in used], leaves, [upstream[i] for i in used], retain_graph=True
            )
            for side in (actual, expected)
        )
        torch.testing.assert_close(gradients, references, rtol=1e-12, atol=1e-12)


def test_the_gradient_is_the_finite_difference(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    *leaves, targets = problem
    monkeypatch.setattr(linear_logprob, "CPU_TILE_WORDS", 7)
    assert torch.autograd.gradcheck(
        lambda hidden, weight, bias: linear_logprobs(
            hidden, weight, bias, targets, temperature=0.7, chunk_tokens=4
        ),
        leaves,
    )


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_what_is_frozen_has_no_gradient_and_the_rest_has_its_own(
    problem: Problem, frozen: int
) -> None:
    *leaves, targets = problem
    logits = leaves[0] @ leaves[1].T + leaves[2]
    trained = [leaf for i, leaf in enumerate(leaves) if i != frozen]
    expected = torch.autograd.grad(
        logprob_and_entropy(logits, targets, temperature=1.0)[0].sum(), trained
    )
    inputs = [leaf.detach() if i == frozen else leaf for i, leaf in enumerate(leaves)]
    logprobs, _ = linear_logprobs(*inputs, targets, temperature=1.0, chunk_tokens=4)
    torch.testing.assert_close(
        torch.autograd.grad(logprobs.sum(), trained), expected, rtol=1e-12, atol=1e-12
    )


@pytest.mark.usefixtures("tile_words")
@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_logits_that_grow_or_shrink_by_thousands_from_tile_to_tile_cost_no_precision(
    direction: float,
) -> None:
    hidden, targets = torch.ones(3, 1), torch.tensor([0, 11, 22])
    weight = direction * 1000.0 * torch.arange(23.0)[:, None]
    weight[[5, 17]] = weight.amax() + torch.tensor(
        [[0.0], [0.5]]
    )  # the two words that share the probability
    actual = linear_logprobs(hidden, weight, None, targets, temperature=1.0, chunk_tokens=10)
    expected = logprob_and_entropy((hidden @ weight.T).double(), targets, temperature=1.0)
    torch.testing.assert_close(
        [value.double() for value in actual], list(expected), rtol=1e-5, atol=1e-6
    )


@pytest.mark.usefixtures("tile_words")
def test_words_that_may_not_be_used_have_no_part_in_value_or_gradient(problem: Problem) -> None:
    hidden, weight, bias, targets = problem
    forbidden = torch.zeros(VOCABULARY, dtype=torch.bool)
    # None of them is a target; the first three are a whole tile at the width of 1.
    forbidden[[0, 1, 2, 8, 20, 22]] = True

    actual = linear_logprobs(
        hidden,
        weight,
        bias.masked_fill(forbidden, -math.inf),
        targets,
        temperature=0.8,
        chunk_tokens=4,
    )

    new_places = (~forbidden).cumsum(0) - 1
    logits = (hidden @ weight.T + bias)[:, ~forbidden]
    expected = logprob_and_entropy(logits, new_places[targets], temperature=0.8)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)

    upstream = (torch.ones(TOKENS), torch.full((TOKENS,), 5.0))
    torch.testing.assert_close(
        torch.autograd.grad(actual, (hidden, weight, bias), upstream),
        torch.autograd.grad(expected, (hidden, weight, bias), upstream),
        rtol=1e-12,
        atol=1e-12,
    )


def test_autocast_computes_the_product_in_its_type_and_everything_else_in_float32(
    problem: Problem,
) -> None:
    hidden, weight, bias, targets = (
        t.detach().float() if t.is_floating_point() else t for t in problem
    )
    leaves = [t.requires_grad_() for t in (hidden, weight, bias)]

    def run(rounded: bool) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if rounded:
                outputs = linear_logprobs(*leaves, targets, temperature=0.8, chunk_tokens=4)
            else:
                logits = torch.nn.functional.linear(hidden, weight, bias)
                assert logits.dtype == torch.bfloat16
                outputs = logprob_and_entropy(logits, targets, temperature=0.8)
        return outputs, torch.autograd.grad(outputs, leaves, [torch.ones(TOKENS)] * 2)

    (actual, gradients), (expected, references) = run(True), run(False)
    assert {value.dtype for value in (*actual, *gradients)} == {torch.float32}
    torch.testing.assert_close(actual, expected, rtol=0, atol=0.03)
    for gradient, reference in zip(gradients, references, strict=True):
        assert float((gradient - reference).norm() / reference.norm()) < 0.02


def test_nothing_the_size_of_the_logits_is_kept_for_the_backward_pass(problem: Problem) -> None:
    *leaves, targets = problem
    kept: list[tuple[int, ...]] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        linear_logprobs(*leaves, targets, temperature=1.0, chunk_tokens=4)
    assert sorted(kept) == sorted(
        [*(tuple(leaf.shape) for leaf in leaves), (TOKENS,), (TOKENS,), (TOKENS,)]
    )


def test_no_tokens_give_empty_results_that_still_reach_the_head(problem: Problem) -> None:
    hidden, weight, bias, targets = problem
    logprobs, entropy = linear_logprobs(
        hidden[:0], weight, bias, targets[:0], temperature=1.0, chunk_tokens=4
    )
    assert logprobs.shape == entropy.shape == (0,)
    for gradient in torch.autograd.grad(logprobs.sum() + entropy.sum(), (weight, bias)):
        assert torch.equal(gradient, torch.zeros_like(gradient))
