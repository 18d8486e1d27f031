"""The losses of tokens by objective: by hand, by their gradients, and however a batch is cut."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rllib_dapo.core import (
    OBJECTIVE_NAMES,
    OBJECTIVES,
    bind_objective,
    cispo_losses,
    clipped_losses,
    dapo_objective,
    dapo_policy_loss,
    objective_arguments,
    policy_loss,
    sapo_losses,
)
from tests.core.made_up import random_batch as batch_of_rows

random_batch = partial(batch_of_rows, rows=5)
QUICK = settings(derandomize=True, max_examples=30)
SETTINGS: Mapping[str, Any] = {
    "epsilon_low": 0.2,
    "epsilon_high": 0.28,
    "dual_clip": None,
    "sapo_temperatures": (1.0, 1.05),
}


def float64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def objective(name: str) -> Any:
    return bind_objective(OBJECTIVES[name], SETTINGS)


def test_every_name_has_its_function() -> None:
    assert tuple(OBJECTIVES) == OBJECTIVE_NAMES == ("clip", "cispo", "sapo")


# By hand


def test_cispo_clips_the_weight_of_a_token_and_keeps_its_gradient() -> None:
    ratio = float64([[0.5, 1.0, 1.1, 2.0]])
    logprobs = float64([[-1.0, -2.0, -3.0, -4.0]]).requires_grad_()
    for sign in (1.0, -1.0):
        losses, figures = cispo_losses(
            logprobs=logprobs,
            ratio=ratio,
            advantages=torch.full_like(ratio, 2.0 * sign),
            epsilon_low=0.2,
            epsilon_high=0.28,
        )
        # weights 0.8, 1, 1.1, 1.28, times 2, times the log-probability
        expected = sign * float64([[1.6, 4.0, 6.6, 10.24]])
        torch.testing.assert_close(losses, expected, rtol=1e-14, atol=0)
        (gradient,) = torch.autograd.grad(losses.sum(), logprobs)
        expected = -sign * float64([[1.6, 2.0, 2.2, 2.56]])
        torch.testing.assert_close(gradient, expected, rtol=1e-14, atol=0)
        # Whatever the sign: a weight is cut, no gradient is stopped.
        assert figures["clip_low_count"].tolist() == [[True, False, False, False]]
        assert figures["clip_high_count"].tolist() == [[False, False, False, True]]


def test_cispo_with_a_lower_range_of_one_has_no_lower_bound() -> None:
    losses, figures = cispo_losses(
        logprobs=float64([[-1.0]]),
        ratio=float64([[0.01]]),
        advantages=float64([[1.0]]),
        epsilon_low=1.0,
        epsilon_high=4.0,
    )
    assert losses.item() == pytest.approx(0.01)
    assert not figures["clip_low_count"].any()


def test_sapo_gates_softly_by_a_temperature_that_the_advantages_sign_chooses() -> None:
    ratio = float64([[1.0, 2.0, 1.0, 2.0, 0.5]]).requires_grad_()
    advantages = float64([[3.0, 3.0, -3.0, -3.0, 0.0]])
    losses = sapo_losses(ratio=ratio, advantages=advantages, sapo_temperatures=(1.0, 2.0))
    # (4 / 1) sigmoid(0) = 2; (4 / 1) sigmoid(1); (4 / 2) sigmoid(0) = 1; (4 / 2) sigmoid(2)
    one, two = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2))
    expected = float64([[-3 * 2.0, -3 * 4 * one, 3 * 1.0, 3 * 2 * two, 0.0]])
    torch.testing.assert_close(losses, expected, rtol=1e-14, atol=0)

    # d/dr = 4 sigmoid (1 - sigmoid) A: at 1 it is that of r A, whatever the temperature.
    (gradient,) = torch.autograd.grad(losses.sum(), ratio)
    expected = float64([[-3.0, -3 * 4 * one * (1 - one), 3.0, 3 * 4 * two * (1 - two), 0.0]])
    torch.testing.assert_close(gradient, expected, rtol=1e-14, atol=0)


def test_the_clipped_one_is_daposs_loss() -> None:
    batch = random_batch(0)
    for dual_clip in (None, 1.5):
        bound = bind_objective(clipped_losses, {**SETTINGS, "dual_clip": dual_clip})
        loss, statistics = policy_loss(**batch, objective=bound)
        expected, expected_statistics = dapo_policy_loss(
            **batch, epsilon_low=0.2, epsilon_high=0.28, dual_clip=dual_clip
        )
        assert loss == expected
        assert statistics == expected_statistics


# Gradients and invariances


@pytest.mark.parametrize("ratio_level", ["token", "sequence"])
@pytest.mark.parametrize("name", OBJECTIVE_NAMES)
def test_at_a_ratio_of_one_every_objective_has_the_policy_gradient(
    name: str, ratio_level: Any
) -> None:
    batch = random_batch(1)
    logprobs = batch["logprobs"].clone().requires_grad_()
    same = dict(batch, logprobs=logprobs, old_logprobs=logprobs.detach())
    loss, _ = policy_loss(**same, objective=objective(name), ratio_level=ratio_level)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    expected = -(batch["weights"] * batch["advantages"])[:, None] * batch["mask"]
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("ratio_level", ["token", "sequence"])
@pytest.mark.parametrize("name", ["clip", "sapo"])
def test_gradients_are_finite_differences(name: str, ratio_level: Any) -> None:
    batch = random_batch(2)

    def loss(logprobs: Tensor) -> Tensor:
        return policy_loss(
            **dict(batch, logprobs=logprobs), objective=objective(name), ratio_level=ratio_level
        )[0]

    logprobs = batch["logprobs"].clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, (logprobs,), eps=1e-6, atol=1e-8, rtol=1e-6)


def test_cispos_gradient_is_the_finite_difference_with_its_weight_held_fast() -> None:
    batch = random_batch(2)

    def loss(logprobs: Tensor, weigh: Tensor) -> Tensor:
        return policy_loss(
            **dict(batch, logprobs=logprobs),
            objective=lambda *, logprobs, advantages, **_: -weigh * advantages * logprobs,
        )[0]

    weigh = (batch["logprobs"] - batch["old_logprobs"]).exp().clamp(0.8, 1.28)
    logprobs = batch["logprobs"].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, weigh), (logprobs,), eps=1e-6, atol=1e-8)
    (expected,) = torch.autograd.grad(loss(logprobs, weigh), logprobs)
    found, _ = policy_loss(**dict(batch, logprobs=logprobs), objective=objective("cispo"))
    torch.testing.assert_close(
        torch.autograd.grad(found, logprobs)[0], expected, rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("name", OBJECTIVE_NAMES)
@QUICK
@given(
    seed=st.integers(0, 2**32 - 1), order=st.permutations(range(5)), cuts=st.sets(st.integers(1, 4))
)
def test_loss_figures_and_gradient_are_sums_over_micro_batches_in_any_order(
    name: str, seed: int, order: list[int], cuts: set[int]
) -> None:
    batch = random_batch(seed)
    leaf = batch["logprobs"].clone().requires_grad_()
    whole, statistics = policy_loss(**dict(batch, logprobs=leaf), objective=objective(name))
    (gradient,) = torch.autograd.grad(whole, leaf)

    again = batch["logprobs"].clone().requires_grad_()
    bounds = [0, *sorted(cuts), 5]
    parts = [order[a:b] for a, b in pairwise(bounds)]
    total, figures = torch.zeros((), dtype=torch.float64), dict.fromkeys(statistics, 0.0)
    for part in parts:
        rows = {key: value[part] for key, value in dict(batch, logprobs=again).items()}
        loss, found = policy_loss(**rows, objective=objective(name))
        total = total + loss
        figures = {key: figures[key] + float(value) for key, value in found.items()}

    torch.testing.assert_close(total, whole, rtol=1e-12, atol=1e-13)
    del figures["ratio_max"]
    assert figures == pytest.approx({key: float(statistics[key]) for key in figures}, rel=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(total, again)[0], gradient, rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("name", OBJECTIVE_NAMES)
@pytest.mark.parametrize("garbage", [math.nan, math.inf, -1e30])
def test_what_stands_outside_the_mask_has_no_part(name: str, garbage: float) -> None:
    batch = random_batch(3)
    batch["advantages"] = batch["advantages"][:, None].expand(5, 6)
    rubbish = {
        key: torch.where(batch["mask"], value, garbage)
        for key, value in batch.items()
        if key in ("logprobs", "old_logprobs", "advantages")
    }
    found = []
    for one in (batch, {**batch, **rubbish}):
        leaf = one["logprobs"].clone().requires_grad_()
        loss, statistics = policy_loss(**dict(one, logprobs=leaf), objective=objective(name))
        found.append((loss.item(), statistics, torch.autograd.grad(loss, leaf)[0]))

    assert found[0][:2] == found[1][:2]
    assert torch.equal(found[0][2], found[1][2])
    assert found[1][2].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OBJECTIVE_NAMES)
def test_log_ratios_of_a_thousand_give_no_infinity(name: str, dtype: torch.dtype) -> None:
    logprobs = torch.tensor([[-1000.0, 0.0, -1.0]], dtype=dtype, requires_grad=True)
    old = torch.tensor([[0.0, -1000.0, -1.0]], dtype=dtype)
    for advantage in (1.0, -1.0):
        loss, _ = policy_loss(
            logprobs,
            old,
            torch.tensor([advantage]),
            torch.ones(1, 3, dtype=torch.bool),
            torch.ones(1),
            objective=objective(name),
        )
        (gradient,) = torch.autograd.grad(loss, logprobs)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_the_whole_objective_takes_any_of_them() -> None:
    batch = random_batch(4)
    for name in OBJECTIVE_NAMES:
        loss, _ = dapo_objective(**batch, objective=objective(name))
        assert loss == policy_loss(**batch, objective=objective(name))[0]


# Arguments by name


def test_an_objective_is_given_what_it_names() -> None:
    assert objective_arguments(sapo_losses) == ("ratio", "advantages", "sapo_temperatures")
    assert objective_arguments(lambda **given: None) == (
        "logprobs",
        "old_logprobs",
        "ratio",
        "advantages",
        "mask",
        *SETTINGS,
    )
    assert objective_arguments(lambda *, ratio, beta=0.5: None) == ("ratio",)


@pytest.mark.parametrize(
    "function", [lambda *, rewards: None, lambda ratio, /: None, lambda ratio, beta: None]
)
def test_an_argument_that_nothing_gives_is_refused(function: Any) -> None:
    with pytest.raises(ValueError, match=r"^its argument '(rewards|ratio|beta)' is none of those"):
        objective_arguments(function)
