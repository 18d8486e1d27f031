"""Scales and caps of logits, by themselves and inside the tiles of the linear head."""

from __future__ import annotations

import math

import pytest
import torch

from rllib_dapo.core import (
    IDENTITY,
    LogitAdjustment,
    chunked_logprobs,
    linear_logprob,
    logprob_and_entropy,
)

ADJUSTMENTS = [
    LogitAdjustment(scale=0.25),
    LogitAdjustment(cap=2.0),
    LogitAdjustment(scale=3.0, cap=0.7),
]


def test_a_cap_by_hand() -> None:
    given = torch.tensor([[0.0, 1.0, -50.0]], dtype=torch.float64)
    adjustment = LogitAdjustment(scale=2.0, cap=4.0)
    expected = [0.0, 4.0 * math.tanh(0.5), -4.0]
    assert adjustment(given)[0].tolist() == pytest.approx(expected)
    assert adjustment.apply_(given.clone())[0].tolist() == pytest.approx(expected)

    # d/dx 4 tanh(2x / 4) = 2 (1 - tanh²)
    slopes = adjustment.slope(adjustment(given))
    assert slopes[0].tolist() == pytest.approx([2.0, 2.0 * (1.0 - math.tanh(0.5) ** 2), 0.0])


def test_nothing_is_computed_where_nothing_is_changed() -> None:
    logits = torch.randn(2, 3, dtype=torch.bfloat16)
    assert IDENTITY(logits) is logits
    assert IDENTITY.slope(logits) == 1.0


@pytest.mark.parametrize("adjustment", ADJUSTMENTS, ids=str)
@pytest.mark.parametrize("tile_words", [7, 1024])
@pytest.mark.parametrize("head_has_hooks", [False, True], ids=["tiles", "chunks"])
def test_inside_tiles_and_chunks_values_and_gradients_are_those_of_full_logits(
    adjustment: LogitAdjustment,
    tile_words: int,
    head_has_hooks: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linear_logprob, "CPU_TILE_WORDS", tile_words)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(10, 6, dtype=torch.float64, generator=generator).requires_grad_()
    head = torch.nn.Linear(6, 23, dtype=torch.float64)
    if head_has_hooks:
        head.register_forward_hook(lambda *_: None)
    targets = torch.arange(10) * 2 + 3

    actual = chunked_logprobs(
        hidden, head, targets, temperature=0.7, chunk_tokens=4, adjustment=adjustment
    )
    expected = logprob_and_entropy(adjustment(head(hidden)), targets, temperature=0.7)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)

    upstream = torch.linspace(-1, 1, 10, dtype=torch.float64)
    leaves = (hidden, head.weight, head.bias)
    gradients, references = (
        torch.autograd.grad([*pair], leaves, [upstream, upstream.flip(0)])
        for pair in (actual, expected)
    )
    torch.testing.assert_close(gradients, references, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("adjustment", ADJUSTMENTS, ids=str)
def test_the_gradient_is_the_finite_difference(
    adjustment: LogitAdjustment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_logprob, "CPU_TILE_WORDS", 5)
    generator = torch.Generator().manual_seed(1)
    leaves = [
        torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in ((4, 3), (11, 3), (11,))
    ]
    targets = torch.tensor([0, 5, 10, 4])
    assert torch.autograd.gradcheck(
        lambda hidden, weight, bias: linear_logprob.linear_logprobs(
            hidden, weight, bias, targets, temperature=0.9, chunk_tokens=3, adjustment=adjustment
        ),
        leaves,
    )
