from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rllib_dapo.core import (
    KL_ESTIMATORS,
    RATIO_LEVELS,
    dapo_objective,
    dapo_policy_loss,
    importance_weights,
    logprob_and_entropy,
    value_loss,
)

QUICK = settings(derandomize=True, max_examples=40)
CLIP: dict[str, Any] = {"epsilon_low": 0.2, "epsilon_high": 0.28}
TERMS: dict[str, Any] = {
    "entropy_coefficient": 0.01,
    "kl_coefficient": 0.05,
    "value_loss_coefficient": 0.5,
    "value_clip": 0.3,
}
POLICY_STATISTICS = {
    "tokens",
    "ratio_sum",
    "ratio_max",
    "clip_low_count",
    "clip_high_count",
    "policy_loss_sum",
}
VALUE_STATISTICS = {
    "value_loss_sum",
    "return_sum",
    "return_square_sum",
    "value_error_square_sum",
    "value_clip_count",
    "value_tokens",
}
LEAVES = ("logprobs", "entropy", "values")


def float64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_batch(seed: int, *, rows: int = 4, width: int = 6) -> dict[str, Any]:
    """Every tensor of the objective: ratios on every side of the bounds, tokens without loss."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    old, values, mask = (
        normal(rows, width) - 3,
        normal(rows, width),
        torch.rand(rows, width, generator=generator) < 0.8,
    )
    return {
        "logprobs": old + 0.4 * normal(rows, width),
        "old_logprobs": old,
        "advantages": normal(rows, width),
        "mask": mask,
        "weights": torch.rand(rows, dtype=torch.float64, generator=generator) + 0.1,
        "token_weights": importance_weights(old, old + 0.5 * normal(rows, width), mask, cap=1.5),
        "entropy": normal(rows, width).abs(),
        "ref_logprobs": old + 0.3 * normal(rows, width),
        "values": values,
        "old_values": values + 0.4 * normal(rows, width),
        "returns": normal(rows, width),
    }


def with_gradients(
    batch: dict[str, Any], **settings: Any
) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, ...]]:
    """Loss, statistics, and gradients by log-probabilities, entropies and values."""
    leaves = {name: batch[name].detach().clone().requires_grad_() for name in LEAVES}
    loss, statistics = dapo_objective(**dict(batch, **leaves), **{**CLIP, **TERMS, **settings})
    return loss, statistics, torch.autograd.grad(loss, tuple(leaves.values()))


def test_the_objective_adds_up_as_worked_by_hand() -> None:
    logprobs = float64([[-1.0, -2.0]])
    loss, statistics = dapo_objective(
        logprobs=logprobs,
        old_logprobs=logprobs,
        advantages=float64([2.0]),
        mask=torch.tensor([[True, True]]),
        weights=float64([0.5]),
        **CLIP,
        entropy=float64([[0.5, 1.5]]),
        entropy_coefficient=0.2,
        ref_logprobs=logprobs - float64([[1.0, 2.0]]),
        kl_coefficient=0.1,
        kl_estimator="k2",
        values=float64([[1.0, 2.0]]),
        old_values=float64([[1.0, 2.0]]),
        returns=float64([[2.0, 4.0]]),
        value_loss_coefficient=0.4,
    )

    policy = -0.5 * (2 + 2)
    kl = 0.5 * (1 / 2 + 4 / 2)
    entropy = 0.5 * (0.5 + 1.5)
    value = 0.5 * (1 / 2 + 4 / 2)
    assert loss.item() == pytest.approx(policy + 0.1 * kl - 0.2 * entropy + 0.4 * value, rel=1e-14)
    assert {name: total.item() for name, total in statistics.items()} == pytest.approx(
        {
            "tokens": 2,
            "ratio_sum": 2,
            "ratio_max": 1,
            "clip_low_count": 0,
            "clip_high_count": 0,
            "policy_loss_sum": policy,
            "kl_sum": 2.5,
            "value_loss_sum": 1.25,
            "return_sum": 6,
            "return_square_sum": 20,
            "value_error_square_sum": 5,
            "value_clip_count": 0,
            "value_tokens": 2,
        }
    )


@pytest.mark.parametrize("ratio_level", RATIO_LEVELS)
def test_tokens_that_do_not_train_the_policy_train_the_values(ratio_level: Any) -> None:
    batch = random_batch(3)
    mask = batch["mask"]
    selected = torch.rand(mask.shape, generator=torch.Generator().manual_seed(3)) < 0.5

    _, statistics, (by_logprob, by_entropy, by_value) = with_gradients(
        batch, ratio_level=ratio_level, selected=selected
    )
    _, critic, (_, _, expected) = with_gradients(batch, ratio_level=ratio_level)

    assert torch.equal(by_value, expected)
    for name in VALUE_STATISTICS:
        assert statistics[name] == critic[name]
    assert not by_entropy[~selected].any()
    assert by_entropy[mask & selected].all()
    assert statistics["tokens"] == (mask & selected).sum()

    # A ratio of a whole response depends on all of its tokens, whichever of them are trained.
    has_gradient = bool(by_logprob[mask & ~selected].any())
    assert has_gradient == (ratio_level == "sequence")


@pytest.mark.parametrize("ratio_level", RATIO_LEVELS)
def test_without_coefficients_the_objective_is_the_policy_loss_and_nothing_else_has_a_gradient(
    ratio_level: Any,
) -> None:
    batch = random_batch(0)
    leaves = {name: batch[name].clone().requires_grad_() for name in LEAVES}
    loss, statistics = dapo_objective(**dict(batch, **leaves), **CLIP, ratio_level=ratio_level)

    names = ("logprobs", "old_logprobs", "advantages", "mask", "weights", "token_weights")
    arguments = {name: leaves.get(name, batch[name]) for name in names}
    expected, expected_statistics = dapo_policy_loss(**arguments, **CLIP, ratio_level=ratio_level)

    assert loss.item() == expected.item()
    assert statistics["policy_loss_sum"].item() == expected.item()
    assert (
        set(statistics)
        == set(expected_statistics) | {"policy_loss_sum", "kl_sum"}
        == POLICY_STATISTICS | {"kl_sum"}
    )

    gradients = torch.autograd.grad(loss, tuple(leaves.values()), allow_unused=True)
    assert torch.equal(gradients[0], torch.autograd.grad(expected, leaves["logprobs"])[0])
    assert gradients[1:] == (None, None)


def test_a_reference_without_a_coefficient_is_only_reported() -> None:
    batch = random_batch(1)
    reported = dapo_objective(**batch, **CLIP)[1]["kl_sum"]
    kept: list[Tensor] = []
    batch["logprobs"].requires_grad_()

    def count() -> int:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor) or tensor, lambda t: t
        ):
            statistics = dapo_objective(**batch, **CLIP)[1]
        assert not any(value.requires_grad for value in statistics.values())
        assert statistics.get("kl_sum", reported).item() == reported.item()
        return len(kept)

    with_reference = count()
    batch["ref_logprobs"] = None
    assert with_reference == count()


def test_statistics_are_there_where_their_terms_inputs_are() -> None:
    batch = random_batch(2)
    everything = dapo_objective(**batch, **CLIP, **TERMS)[1]
    assert set(everything) == POLICY_STATISTICS | VALUE_STATISTICS | {"kl_sum"}
    nothing = dapo_objective(**dict(batch, ref_logprobs=None), **CLIP)[1]
    assert set(nothing) == POLICY_STATISTICS
    _, critic = value_loss(
        *(batch[name] for name in ("values", "old_values", "returns", "mask", "weights")),
        value_clip=0.3,
    )
    assert {name: everything[name] for name in VALUE_STATISTICS} == critic


@pytest.mark.parametrize(
    ("name", "coefficient"),
    [
        ("entropy", "entropy_coefficient"),
        ("ref_logprobs", "kl_coefficient"),
        ("values", "value_loss_coefficient"),
        ("old_values", "value_loss_coefficient"),
        ("returns", "value_loss_coefficient"),
    ],
)
def test_a_coefficient_without_its_terms_input_is_refused_by_name(
    name: str, coefficient: str
) -> None:
    with pytest.raises(ValueError, match=f"{coefficient} is not 0, but there is no {name}:"):
        dapo_objective(**dict(random_batch(0), **{name: None}), **CLIP, **TERMS)


@pytest.mark.parametrize("kl_estimator", KL_ESTIMATORS)
@pytest.mark.parametrize("ratio_level", RATIO_LEVELS)
@QUICK
@given(seed=st.integers(0, 2**32 - 1), garbage=st.sampled_from([0.0, -1e30, math.inf, math.nan]))
def test_a_token_outside_the_mask_has_no_part_in_loss_statistics_or_gradient(
    ratio_level: Any, kl_estimator: Any, seed: int, garbage: float
) -> None:
    batch = random_batch(seed)
    mask = batch["mask"]
    rubbish = {
        name: torch.where(mask, tensor, garbage if i % 2 else -garbage)
        if tensor.shape == mask.shape
        else tensor
        for i, (name, tensor) in enumerate(batch.items())
        if name != "mask"
    }

    settings = {"ratio_level": ratio_level, "kl_estimator": kl_estimator, "dual_clip": 1.5}
    loss, statistics, gradients = with_gradients(batch, **settings)
    again, statistics_again, gradients_again = with_gradients(dict(rubbish, mask=mask), **settings)

    assert again.item() == loss.item()
    assert statistics_again == statistics
    for gradient, gradient_again in zip(gradients, gradients_again, strict=True):
        assert gradient_again[~mask].abs().sum().item() == 0.0
        assert torch.equal(gradient_again, gradient)


@pytest.mark.parametrize("ratio_level", RATIO_LEVELS)
@QUICK
@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(4)), columns=st.integers(0, 4))
def test_permuting_and_padding_a_batch_change_nothing(
    ratio_level: Any, seed: int, order: list[int], columns: int
) -> None:
    batch = random_batch(seed)
    wide = {
        name: torch.nn.functional.pad(tensor, (0, columns)) if tensor.dim() == 2 else tensor
        for name, tensor in batch.items()
    }

    loss, statistics, gradients = with_gradients(batch, ratio_level=ratio_level)
    again, statistics_again, gradients_again = with_gradients(
        {name: tensor[list(order)] for name, tensor in wide.items()}, ratio_level=ratio_level
    )

    torch.testing.assert_close(again, loss, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(statistics_again, statistics, rtol=1e-12, atol=1e-12)
    for gradient, gradient_again in zip(gradients, gradients_again, strict=True):
        torch.testing.assert_close(
            gradient_again[:, :6], gradient[list(order)], rtol=1e-12, atol=1e-12
        )


any_number = st.sampled_from([math.inf, -math.inf, 1e300, -1e300, 0.0]) | st.floats(allow_nan=False)
any_log_probabilities = st.lists(any_number, min_size=4, max_size=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ratio_level", RATIO_LEVELS)
@QUICK
@given(
    logprobs=any_log_probabilities,
    old=any_log_probabilities,
    reference=any_log_probabilities,
    sampler=any_log_probabilities,
    kl_estimator=st.sampled_from(KL_ESTIMATORS),
    dual_clip=st.sampled_from([None, 10.0]),
)
def test_no_log_probabilities_give_infinity_or_nan(
    dtype: torch.dtype,
    ratio_level: Any,
    logprobs: list[float],
    old: list[float],
    reference: list[float],
    sampler: list[float],
    kl_estimator: Any,
    dual_clip: float | None,
) -> None:
    batch = random_batch(0, rows=2, width=2)
    batch = {
        name: tensor if tensor.dtype == torch.bool else tensor.to(dtype)
        for name, tensor in batch.items()
    }

    policy, old_logprobs, ref_logprobs, engine = (
        torch.tensor(numbers, dtype=dtype).view(2, 2)
        for numbers in (logprobs, old, reference, sampler)
    )
    batch |= {"logprobs": policy, "old_logprobs": old_logprobs, "ref_logprobs": ref_logprobs}
    batch["token_weights"] = importance_weights(old_logprobs, engine, batch["mask"], cap=2.0)
    loss, statistics, gradients = with_gradients(
        batch, ratio_level=ratio_level, kl_estimator=kl_estimator, dual_clip=dual_clip
    )

    for value in (loss, *gradients, *statistics.values()):
        assert bool(value.isfinite().all())


def gradient_problem() -> tuple[dict[str, Any], Tensor, Tensor, Tensor]:
    """A batch, logits `[B, T, V]`, targets and values.

    Every branch is taken, and nothing is within 0.01 of its edge.
    """
    generator = torch.Generator().manual_seed(5)
    batch = random_batch(6, rows=5, width=4)
    batch["mask"] = torch.arange(4)[None] != torch.tensor([3, 1, 9, 0, 2])[:, None]
    batch["advantages"] = float64([-1.0, -2.0, 0.5, 1.5, -0.7])[:, None] * (
        1 + torch.arange(4) / 10
    )

    logits = torch.randn(5, 4, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    targets = torch.randint(6, (5, 4), generator=generator)
    with torch.no_grad():
        logprobs = logprob_and_entropy(logits.flatten(0, 1), targets.flatten(), temperature=0.9)[
            0
        ].view(5, 4)
    # Logarithms of the ratio that are clipped by: dual clip, low, high, none, none.
    of_response = float64([0.7, -0.5, 0.6, 0.05, 0.1])
    batch["old_logprobs"] = logprobs - of_response[:, None] - float64([0.11, -0.09, 0.02, -0.04])

    values = batch["values"].clone().requires_grad_()
    batch["old_values"] = batch["values"] + float64([0.1, -0.2, 0.6, -0.5])
    return batch, logits, targets, values


@pytest.mark.parametrize("kl_estimator", KL_ESTIMATORS)
@pytest.mark.parametrize("dual_clip", [None, 1.5])
@pytest.mark.parametrize("ratio_level", RATIO_LEVELS)
def test_the_gradient_of_the_whole_objective_is_its_finite_difference(
    ratio_level: Any, dual_clip: float | None, kl_estimator: Any
) -> None:
    batch, logits, targets, values = gradient_problem()

    def objective(logits: Tensor, values: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logprobs, entropy = logprob_and_entropy(
            logits.flatten(0, 1), targets.flatten(), temperature=0.9
        )
        arguments = dict(
            batch, logprobs=logprobs.view(5, 4), entropy=entropy.view(5, 4), values=values
        )
        return dapo_objective(
            **arguments,
            **CLIP,
            **TERMS,
            ratio_level=ratio_level,
            kl_estimator=kl_estimator,
            dual_clip=dual_clip,
        )

    _, statistics = objective(logits, values)
    for name in ("clip_low_count", "clip_high_count", "value_clip_count"):
        assert 0 < statistics[name] < statistics["tokens"] / 2, "the example must reach every clip"
    assert statistics["ratio_max"] > 1.5, "and the dual one"
    assert torch.autograd.gradcheck(
        lambda x, v: objective(x, v)[0], (logits, values), eps=1e-6, atol=1e-8, rtol=1e-6
    )


def test_every_branch_of_the_gradients_example_is_a_hundredth_away_from_its_edge() -> None:
    batch, logits, targets, values = gradient_problem()
    logprobs, _ = logprob_and_entropy(logits.flatten(0, 1), targets.flatten(), temperature=0.9)
    difference = torch.where(batch["mask"], logprobs.view(5, 4) - batch["old_logprobs"], 0.0)
    means = difference.sum(-1) / batch["mask"].sum(-1)
    for log_ratio in (difference[batch["mask"]].detach(), means.detach()):
        for edge in (0.8, 1.28, 1.5):
            assert float((log_ratio.exp() - edge).abs().min()) > 0.01
    clip = (values.detach() - batch["old_values"]).abs() - TERMS["value_clip"]
    assert float(clip.abs().min()) > 0.01
