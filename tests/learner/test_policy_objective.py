"""The objective that a Learner trains with: by name, a user's own, and what is refused of these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from rllib_dapo import DAPOConfig
from rllib_dapo.core import clipped_losses
from rllib_dapo.learner.policy_objective import policy_objective, try_own_objective
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.models import load_causal_lm

MakeTrainer = Callable[[DAPOConfig], Any]
Data = Callable[..., GroupTrainingData]


def quadratic(*, ratio: Tensor, advantages: Tensor, epsilon_high: float) -> Any:
    """`-(r A - abs(A) / (2 ε) (r - 1)²)`: an objective of one's own, with a figure."""
    penalty = advantages.abs() / (2 * epsilon_high) * (ratio - 1).square()
    return penalty - ratio * advantages, {"penalty": penalty}


def own(config: DAPOConfig, objective: Any) -> DAPOConfig:
    return config.copy(copy_frozen=False).training(objective=objective)


def weights_after_five(trainer: Any, data: GroupTrainingData) -> Tensor:
    metrics = trainer.update(data)
    assert metrics["gradient_updates"] == 5
    weights = trainer.weights()
    return torch.cat([torch.from_numpy(weights[name]).flatten() for name in sorted(weights)])


@pytest.mark.parametrize(
    "objective", ["clip", "cispo", "sapo", pytest.param(quadratic, id="quadratic")]
)
def test_five_updates_come_to_the_same_weights_however_minibatches_are_cut(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    plans: list[dict[str, int]],
    objective: Any,
) -> None:
    """In micro-batches, one token a time, and in rows that responses share."""
    config.training(lr=1e-3).kl(coefficient=0.1, importance_ratio=True)
    whole, *others = (
        weights_after_five(make_trainer(own(config, objective)), make_data(5, plan=plan))
        for plan in plans
    )
    for other in others:
        assert float((other - whole).norm() / whole.norm()) < 1e-6


def test_objectives_come_to_different_weights(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    after = [
        weights_after_five(make_trainer(own(config, objective)), make_data(5))
        for objective in ("clip", "cispo", "sapo", quadratic)
    ]
    for i, one in enumerate(after):
        assert all(float((one - other).norm()) > 1e-4 for other in after[:i])


def test_an_own_objective_is_weighed_like_a_shipped_one(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    def mine(**given: Any) -> Tensor:
        names = ("ratio", "advantages", "epsilon_low", "epsilon_high", "dual_clip")
        return clipped_losses(**{name: given[name] for name in names})[0]

    config.training(dual_clip=1.5)
    found, expected = (
        weights_after_five(make_trainer(own(config, objective)), make_data(5))
        for objective in (mine, "clip")
    )
    assert torch.equal(found, expected)


def test_figures_are_means_over_the_tokens_trained_on_and_clip_fractions_only_where_one_clips(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    data = {"plan": {"max_tokens_per_microbatch": 40}}
    trainer = make_trainer(own(config.training(old_logprobs="sampler"), quadratic))
    metrics = trainer.update(make_data(**data))
    penalties = [
        batch["advantages"].abs()[:, None].expand_as(batch["mask"])[batch["mask"]]
        / (2 * 0.28)
        * ((batch["logprobs"] - batch["old_logprobs"])[batch["mask"]].exp() - 1).square()
        for batch in trainer.learner.losses
    ]
    assert len(penalties) > 1
    assert metrics["objective_figures/penalty"] == pytest.approx(float(torch.cat(penalties).mean()))
    assert "clip_fraction_low" not in metrics

    for objective, clips in (("sapo", False), ("cispo", True), ("clip", True)):
        metrics = make_trainer(own(config, objective)).update(make_data(**data))
        assert ("clip_fraction_high" in metrics) == clips
        assert not [name for name in metrics if name.startswith("objective_figures/")]


def test_a_learner_without_work_asks_no_function_of_ones_own(config: DAPOConfig) -> None:
    def fussy(*, logprobs: Tensor, advantages: Tensor) -> Tensor:
        assert logprobs.numel()
        return -advantages * logprobs

    none = torch.zeros(0, 0, requires_grad=True)
    given = dict.fromkeys(("logprobs", "old_logprobs", "ratio", "advantages"), none)
    losses, figures = policy_objective(own(config, fussy))(**given, mask=torch.zeros(0, 0) == 1)
    assert losses.shape == (0, 0)
    assert losses.requires_grad
    assert figures == {}


# IcePop


def test_tokens_on_which_trainer_and_sampler_disagree_have_no_gradient(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    raw_model: Path,
    plain_scores: Callable[..., tuple[Tensor, Tensor]],
) -> None:
    """With a cap at the upper bound the factor is the ratio inside the bounds and 0 outside."""
    config.training(grad_clip=None)
    trainer = make_trainer(config.importance_sampling(token_bounds=(0.5, 2.0), cap=2.0))
    data = make_data(plan={"max_tokens_per_microbatch": 40})
    metrics = trainer.update(data)

    model: PreTrainedModel = load_causal_lm(raw_model, dtype=torch.float64)
    total, outside = torch.zeros((), dtype=torch.float64), []
    for planned in (r for micro in data.shards[0][0] for r in micro.responses):
        group = data.groups[planned.group]
        response = group.responses[planned.index]
        logprobs, _ = plain_scores(model, group, planned.index)
        mask = torch.tensor(response.loss_mask)
        ratio = (logprobs.detach() - torch.tensor(response.logprobs).double()).exp()
        kept = mask & (ratio >= 0.5) & (ratio <= 2.0)
        outside += (~kept)[mask].tolist()
        total = total - planned.advantage * (ratio * logprobs)[kept].sum()
    (total / len(outside)).backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    (found,) = trainer.learner.gradients
    assert float((found - expected).norm() / expected.norm()) < 1e-6
    assert 0 < sum(outside) < len(outside)
    assert metrics["masked_token_fraction"] == pytest.approx(sum(outside) / len(outside))
    assert metrics["trained_tokens"] == len(outside) - sum(outside)


# What is refused of one's own


def _in_place(*, ratio: Tensor, advantages: Tensor) -> Tensor:
    advantages.mul_(2.0)
    return -ratio * advantages


def _raises(*, ratio: Tensor) -> Tensor:
    raise RuntimeError("on purpose\nin two lines")


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "another shape": (lambda *, ratio: ratio.sum(-1), r"gave \(3,\) for losses"),
    "one number": (lambda *, ratio: ratio.mean(), r"gave \(\) for losses"),
    "no tensor": (lambda *, ratio: 1.0, "gave float for losses"),
    "three results": (lambda *, ratio: (ratio, {}, {}), "gave tuple for losses"),
    "complex": (lambda *, ratio: ratio * 1j, r"losses of torch.complex128: they must be real"),
    "whole numbers": (lambda *, ratio: (ratio > 1).long(), "losses of torch.int64"),
    "no gradient": (lambda *, ratio: ratio.detach(), "without a gradient"),
    "a gradient of zero": (lambda *, ratio: ratio * 0.0, "by the log-probabilities is zero"),
    "not finite": (lambda *, ratio: ratio / 0.0, "a loss that is not finite"),
    "no finite gradient": (lambda *, ratio: (ratio - ratio).sqrt(), "gradient is not finite"),
    "a mean over the batch": (
        lambda *, ratio, mask: ratio / mask.sum(),
        "other losses when it is alone in a micro-batch",
    ),
    "advantages over the batch": (
        lambda *, ratio, advantages: -ratio * advantages / advantages.std(),
        "other losses when it is alone in a micro-batch",
    ),
    "changes in place": (_in_place, "changes advantages in place"),
    "raises": (_raises, r"raised RuntimeError: on purpose in two lines$"),
    "a figure of one number": (
        lambda *, ratio: (ratio, {"mean": ratio.mean()}),
        r"gave \(\) for the figure 'mean'",
    ),
    "a figure's odd name": (lambda *, ratio: (ratio, {"A b": ratio}), "names are small letters"),
    "figures without names": (lambda *, ratio: (ratio, [ratio]), "gave list beside the losses"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_objective_of_ones_own_is_tried_and_refused_in_one_line(
    config: DAPOConfig, case: str
) -> None:
    function, said = REFUSED[case]
    with pytest.raises(ValueError, match=said) as refused:
        try_own_objective(own(config, function))
    assert str(refused.value).startswith("training.objective=<function ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("ratio_level", ["token", "sequence"])
def test_a_right_one_is_let_through(config: DAPOConfig, ratio_level: Any) -> None:
    try_own_objective(own(config.training(ratio_level=ratio_level), quadratic))
