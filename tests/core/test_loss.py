from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rllib_dapo.core import dapo_policy_loss, logprob_and_entropy, response_weights, token_ratios
from tests.core.made_up import random_batch

QUICK = settings(derandomize=True, max_examples=40)
PAPER: dict[str, Any] = {"epsilon_low": 0.2, "epsilon_high": 0.28}
RATIOS = [
    0.5,
    0.9,
    1.0,
    1.1,
    1.25,
    1.5,
    20.0,
]  # below, inside (1.25 only under Clip-Higher), above the bounds


def float64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def one_token_losses(
    advantage: float, *, dual_clip: float | None = None
) -> tuple[list[float], list[float]]:
    """Loss of a token with each of `RATIOS`, and its derivative by the log-probability."""
    logprobs = float64(RATIOS).log()[:, None].requires_grad_()
    ones = torch.ones(len(RATIOS), dtype=torch.float64)
    losses = []

    for i in range(len(RATIOS)):
        loss, _ = dapo_policy_loss(
            logprobs,
            torch.zeros_like(logprobs),
            advantage * ones,
            torch.ones_like(logprobs, dtype=torch.bool),
            torch.eye(len(RATIOS), dtype=torch.float64)[i],
            **PAPER,
            dual_clip=dual_clip,
        )
        losses.append(loss)

    (gradient,) = torch.autograd.grad(torch.stack(losses).sum(), logprobs)
    return [loss.item() for loss in losses], gradient[:, 0].tolist()


def test_a_positive_advantage_is_clipped_above_only() -> None:
    loss, gradient = one_token_losses(2.0)
    assert loss == pytest.approx([-1.0, -1.8, -2.0, -2.2, -2.5, -2.56, -2.56], rel=1e-14)
    assert gradient == pytest.approx([-1.0, -1.8, -2.0, -2.2, -2.5, 0.0, 0.0], rel=1e-14)


def test_a_negative_advantage_is_clipped_below_only() -> None:
    loss, gradient = one_token_losses(-2.0)
    assert loss == pytest.approx([1.6, 1.8, 2.0, 2.2, 2.5, 3.0, 40.0], rel=1e-14)
    assert gradient == pytest.approx([0.0, 1.8, 2.0, 2.2, 2.5, 3.0, 40.0], rel=1e-14)


def test_the_dual_clip_bounds_the_loss_of_negative_advantages_alone() -> None:
    loss, gradient = one_token_losses(-2.0, dual_clip=10.0)
    assert loss == pytest.approx([1.6, 1.8, 2.0, 2.2, 2.5, 3.0, 20.0], rel=1e-14)
    assert gradient == pytest.approx([0.0, 1.8, 2.0, 2.2, 2.5, 3.0, 0.0], rel=1e-14)
    assert one_token_losses(2.0, dual_clip=10.0) == one_token_losses(2.0)


def test_the_loss_is_the_weighted_sum_over_tokens_with_loss() -> None:
    ratio = float64([[1.0, 1.1, 9.0], [0.5, 1.5, 1.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    loss, _ = dapo_policy_loss(
        ratio.log(),
        torch.zeros_like(ratio),
        float64([1.0, -1.0]),
        mask,
        float64([0.5, 0.25]),
        **PAPER,
    )
    assert loss.item() == pytest.approx(0.5 * (-1.0 - 1.1) + 0.25 * (0.8 + 1.5 + 1.0), rel=1e-14)


def test_statistics_count_each_clip_where_it_stops_the_gradient() -> None:
    ratio = float64(
        [[0.5, 0.7, 1.0, 1.5, 0.1], [0.5, 1.0, 1.5, 1.4, 30.0], [0.5, 1.0, 1.5, 0.1, 9.0]]
    )
    mask = torch.tensor([[True, True, True, True, False]] * 3)

    _, statistics = dapo_policy_loss(
        ratio.log(),
        torch.zeros_like(ratio),
        float64([-1.0, 1.0, 0.0]),
        mask,
        torch.ones(3),
        **PAPER,
    )

    assert statistics["tokens"].item() == 12
    # 0.5 and 0.7; the masked 0.1 and A >= 0 do not count.
    assert statistics["clip_low_count"].item() == 2
    # 1.5 and 1.4 of the second row.
    assert statistics["clip_high_count"].item() == 2
    assert statistics["ratio_sum"].item() == pytest.approx(3.7 + 4.4 + 3.1, rel=1e-14)
    assert statistics["ratio_max"].item() == pytest.approx(1.5, rel=1e-14)


def test_an_advantage_may_differ_from_token_to_token() -> None:
    ratio = float64([[1.0, 1.5, 0.5], [0.5, 1.5, 1.0]])
    advantages = float64([[1.0, 2.0, -3.0], [-1.0, -2.0, 0.5]])
    everywhere = torch.ones(2, 3, dtype=torch.bool)
    loss, statistics = dapo_policy_loss(
        ratio.log(), torch.zeros_like(ratio), advantages, everywhere, float64([0.5, 0.25]), **PAPER
    )
    assert loss.item() == pytest.approx(
        0.5 * (-1.0 - 2 * 1.28 + 3 * 0.8) + 0.25 * (0.8 + 3.0 - 0.5), rel=1e-14
    )
    assert statistics["clip_low_count"].item() == 2
    assert statistics["clip_high_count"].item() == 1


def test_token_weights_multiply_the_clipped_loss_and_have_no_gradient() -> None:
    logprobs = float64([[1.0, 1.1, 9.0], [0.5, 1.5, 1.0]]).log().requires_grad_()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    factors = float64([[2.0, 0.5, math.nan], [1.0, 0.0, 3.0]]).requires_grad_()

    loss, _ = dapo_policy_loss(
        logprobs,
        torch.zeros_like(logprobs),
        float64([1.0, -1.0]),
        mask,
        float64([0.5, 0.25]),
        **PAPER,
        token_weights=factors,
    )
    assert loss.item() == pytest.approx(0.5 * (-2.0 - 0.55) + 0.25 * (0.8 + 0.0 + 3.0), rel=1e-14)

    gradient, none = torch.autograd.grad(loss, (logprobs, factors), allow_unused=True)
    expected = float64([[-1.0, -0.275, 0.0], [0.0, 0.0, 0.75]])
    torch.testing.assert_close(gradient, expected, rtol=1e-14, atol=1e-14)
    assert none is None


def test_the_ratio_of_a_sequence_is_clipped_for_all_its_tokens_together() -> None:
    # The geometric means are 2, 1.1 and 0.5; some tokens of every response alone are inside the
    # bounds.
    ratio = float64([[4.0, 1.0, 9.0], [1.1, 1.1, 1.1], [0.25, 1.0, 0.5]])
    mask = torch.tensor([[True, True, False], [True, True, True], [True, True, True]])
    logprobs = ratio.log().requires_grad_()

    loss, statistics = dapo_policy_loss(
        logprobs,
        torch.zeros_like(ratio),
        float64([1.0, 2.0, -1.0]),
        mask,
        float64([1.0, 0.5, 0.25]),
        **PAPER,
        ratio_level="sequence",
    )
    assert loss.item() == pytest.approx(-2 * 1.28 - 0.5 * 3 * 2.2 + 0.25 * 3 * 0.8, rel=1e-12)
    assert statistics["clip_high_count"].item() == 2
    assert statistics["clip_low_count"].item() == 3
    assert statistics["ratio_sum"].item() == pytest.approx(2 * 2.0 + 3 * 1.1 + 3 * 0.5, rel=1e-12)
    assert statistics["ratio_max"].item() == pytest.approx(2.0, rel=1e-12)

    # Each token of the second response: 0.5 * 3 tokens * -2 * 1.1 / 3.
    expected = float64([[0.0, 0.0, 0.0], [-1.1, -1.1, -1.1], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(
        torch.autograd.grad(loss, logprobs)[0], expected, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("advantage", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("dual_clip", [None, 10.0])
def test_log_ratios_of_a_thousand_give_no_infinity(
    dtype: torch.dtype, advantage: float, dual_clip: float | None
) -> None:
    logprobs = torch.tensor([[-1000.0, 0.0, -1.0]], dtype=dtype, requires_grad=True)
    old = torch.tensor([[0.0, -1000.0, -1.0]], dtype=dtype)
    mask = torch.ones(1, 3, dtype=torch.bool)
    loss, statistics = dapo_policy_loss(
        logprobs, old, float64([advantage]), mask, torch.ones(1), **PAPER, dual_clip=dual_clip
    )
    (gradient,) = torch.autograd.grad(loss, logprobs)
    for value in (loss, gradient, *statistics.values()):
        assert bool(value.isfinite().all())
    assert token_ratios(logprobs, old, mask).tolist()[0] == pytest.approx(
        [math.exp(-20), math.exp(20), 1.0], rel=1e-5
    )


@pytest.mark.parametrize("shape", [(0, 0), (2, 0), (2, 3)])
def test_a_batch_without_loss_tokens_has_loss_zero(shape: tuple[int, int]) -> None:
    logprobs = torch.full(shape, -1.0, dtype=torch.float64, requires_grad=True)
    rows = torch.ones(shape[0], dtype=torch.float64)
    loss, statistics = dapo_policy_loss(
        logprobs, logprobs.detach(), rows, torch.zeros(shape, dtype=torch.bool), rows, **PAPER
    )
    assert loss.item() == 0.0
    assert [value.item() for value in statistics.values()] == [0, 0, 0, 0, 0]
    assert torch.autograd.grad(loss, logprobs)[0].abs().sum().item() == 0.0


@QUICK
@given(seed=st.integers(0, 2**32 - 1), epsilon=st.floats(0.01, 0.9))
def test_equal_bounds_are_ppos_symmetric_clip(seed: int, epsilon: float) -> None:
    batch = random_batch(seed)
    expected = 0.0
    for i, j in batch["mask"].nonzero().tolist():
        ratio = math.exp(batch["logprobs"][i, j].item() - batch["old_logprobs"][i, j].item())
        advantage = batch["advantages"][i].item()
        surrogate = advantage * (
            min(ratio, 1 + epsilon) if advantage > 0 else max(ratio, 1 - epsilon)
        )
        expected -= batch["weights"][i].item() * surrogate
    loss, _ = dapo_policy_loss(**batch, epsilon_low=epsilon, epsilon_high=epsilon)
    assert loss.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@QUICK
@given(seed=st.integers(0, 2**32 - 1), epsilon=st.floats(0.01, 0.9))
def test_the_sequence_level_with_equal_token_counts_is_gspos_mean_over_responses(
    seed: int, epsilon: float
) -> None:
    batch = random_batch(seed)
    batch["mask"] = torch.arange(6).expand(4, 6) < 5
    expected = 0.0
    for i in range(4):
        difference = (batch["logprobs"] - batch["old_logprobs"])[i, :5]
        ratio, advantage = math.exp(sum(difference.tolist()) / 5), batch["advantages"][i].item()
        clipped = min(max(ratio, 1 - epsilon), 1 + epsilon)
        expected -= min(ratio * advantage, clipped * advantage) / 4

    weights = response_weights(
        [5] * 4, [0] * 4, loss_aggregation="sequence_mean", max_response_tokens=6
    )
    arguments = dict(batch, weights=float64(weights), ratio_level="sequence")
    loss, _ = dapo_policy_loss(**arguments, epsilon_low=epsilon, epsilon_high=epsilon)
    assert loss.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@QUICK
@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(4)))
def test_permuting_a_batch_changes_nothing(seed: int, order: list[int]) -> None:
    batch = random_batch(seed)
    permuted = {name: value[list(order)] for name, value in batch.items()}
    loss, statistics = dapo_policy_loss(**batch, **PAPER)
    again, statistics_again = dapo_policy_loss(**permuted, **PAPER)
    torch.testing.assert_close(again, loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(statistics_again, statistics, rtol=1e-12, atol=1e-12)


@QUICK
@given(
    seed=st.integers(0, 2**32 - 1),
    columns=st.integers(1, 5),
    garbage=st.sampled_from([0.0, -1e30, math.nan]),
)
def test_padding_changes_nothing(seed: int, columns: int, garbage: float) -> None:
    batch = random_batch(seed)

    def padded(tensor: Tensor, value: float) -> Tensor:
        return torch.nn.functional.pad(tensor, (0, columns), value=value)

    wide = dict(batch, mask=padded(batch["mask"], False))
    wide["logprobs"] = padded(batch["logprobs"], garbage).requires_grad_()
    wide["old_logprobs"] = padded(batch["old_logprobs"], -garbage)
    loss, statistics = dapo_policy_loss(**batch, **PAPER)
    again, statistics_again = dapo_policy_loss(**wide, **PAPER)
    torch.testing.assert_close(again, loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(statistics_again, statistics, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(again, wide["logprobs"])
    assert gradient[:, -columns:].abs().sum().item() == 0.0


@QUICK
@given(seed=st.integers(0, 2**32 - 1))
def test_a_token_has_a_gradient_only_where_it_has_loss_and_is_not_clipped(seed: int) -> None:
    batch = random_batch(seed)
    batch["logprobs"].requires_grad_()
    loss, statistics = dapo_policy_loss(**batch, **PAPER)
    (gradient,) = torch.autograd.grad(loss, batch["logprobs"])
    assert gradient[~batch["mask"]].abs().sum().item() == 0.0
    clipped = statistics["clip_low_count"] + statistics["clip_high_count"]
    assert int((gradient != 0).sum()) == int(statistics["tokens"] - clipped)


@pytest.mark.parametrize("dual_clip", [None, 1.5])
def test_the_gradient_is_the_finite_difference_of_the_loss_through_a_model(
    dual_clip: float | None,
) -> None:
    batch = random_batch(3, rows=6, width=8)
    generator = torch.Generator().manual_seed(4)
    inputs, targets = torch.randint(5, (2, 6, 8), generator=generator)
    embedding = torch.randn(5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    head = torch.randn(3, 5, dtype=torch.float64, generator=generator, requires_grad=True)

    def loss(
        embedding: Tensor, head: Tensor, dual_clip: float | None = dual_clip
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logits = torch.tanh(embedding[inputs.flatten()]) @ head
        logprobs, _ = logprob_and_entropy(logits, targets.flatten(), temperature=0.9)
        arguments = dict(
            batch,
            logprobs=logprobs.view_as(batch["mask"]),
            old_logprobs=batch["old_logprobs"] + 1.5,
        )
        return dapo_policy_loss(**arguments, **PAPER, dual_clip=dual_clip)

    value, statistics = loss(embedding, head)
    clipped = int(statistics["clip_low_count"]), int(statistics["clip_high_count"])
    assert min(clipped) > 0, "the example must reach both bounds"
    assert sum(clipped) < statistics["tokens"], "and leave some tokens between them"
    assert (value != loss(embedding, head, None)[0]) == (dual_clip is not None), (
        "and reach the dual clip"
    )
    assert torch.autograd.gradcheck(
        lambda e, h: loss(e, h)[0], (embedding, head), eps=1e-6, atol=1e-8, rtol=1e-6
    )


def test_the_ratio_of_a_response_is_that_of_all_its_tokens() -> None:
    """By hand: log-ratios 0.1 and 0.3, of which the second token alone is trained."""
    loss, statistics = dapo_policy_loss(
        float64([[-0.9, -0.7]]),
        float64([[-1.0, -1.0]]),
        float64([1.0]),
        torch.tensor([[True, True]]),
        float64([1.0]),
        epsilon_low=0.9,
        epsilon_high=0.9,
        ratio_level="sequence",
        selected=torch.tensor([[False, True]]),
    )
    assert loss.item() == pytest.approx(-math.exp(0.2))
    assert statistics["ratio_sum"].item() == pytest.approx(math.exp(0.2))
