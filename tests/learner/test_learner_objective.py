"""The terms of the loss beside the clipped ratio, by their gradients in a real model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from rllib_dapo import DAPOConfig
from rllib_dapo.core import PromptGroup, TrainResponse
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.models import load_causal_lm

LearnerConfig = Callable[..., DAPOConfig]
MakeTrainer = Callable[[DAPOConfig], Any]
Data = Callable[..., GroupTrainingData]
MakeGroups = Callable[..., dict[int, PromptGroup]]
PlainScores = Callable[..., tuple[Tensor, Tensor]]
# Of one response: what it is, log-probabilities and entropies of its tokens, and which of them have
# loss.
ResponseLoss = Callable[[TrainResponse, Tensor, Tensor, Tensor], Tensor]


@pytest.fixture
def config(learner_config: LearnerConfig) -> DAPOConfig:
    """Float64, so that gradients can be compared closely; no clipping of them."""
    return learner_config().language_model(dtype="float64").training(grad_clip=None, lr=1e-3)


@pytest.fixture
def model(raw_model: Path) -> PreTrainedModel:
    return load_causal_lm(raw_model, dtype=torch.float64)


@pytest.fixture
def gradient_of(plain_scores: PlainScores) -> Callable[..., Tensor]:
    """The gradient of a loss written out by responses, over the number of tokens with loss."""

    def gradient(model: PreTrainedModel, data: GroupTrainingData, loss_of: ResponseLoss) -> Tensor:
        responses = [r for plan in data.shards[0] for micro in plan for r in micro.responses]
        total = torch.zeros((), dtype=torch.float64)
        for planned in responses:
            group = data.groups[planned.group]
            logprobs, entropies = plain_scores(model, group, planned.index)
            mask = torch.tensor(group.responses[planned.index].loss_mask)
            total = total + loss_of(planned, logprobs, entropies, mask)
        model.zero_grad()
        (total / sum(r.loss_tokens for r in responses)).backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    return gradient


def sampler_logprobs(data: GroupTrainingData, planned: TrainResponse) -> Tensor:
    return torch.tensor(
        data.groups[planned.group].responses[planned.index].logprobs, dtype=torch.float64
    )


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Nearly: the model's norms round to float32 even in float64."""
    assert float(expected.norm()) > 1e-3
    assert float((found - expected).norm() / expected.norm()) < 1e-6


# Sampler and trainer


def test_importance_weights_scale_each_tokens_gradient_up_to_the_cap(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    model: PreTrainedModel,
    gradient_of: Callable[..., Tensor],
) -> None:
    trainer, data = make_trainer(config.importance_sampling(cap=1.5)), make_data()
    metrics = trainer.update(data)
    capped = []

    def loss(planned: TrainResponse, logprobs: Tensor, entropies: Tensor, mask: Tensor) -> Tensor:
        ratio = (logprobs.detach() - sampler_logprobs(data, planned)).exp()
        capped.extend((ratio >= 1.5)[mask].tolist())
        return -planned.advantage * (ratio.clamp(max=1.5) * logprobs)[mask].sum()

    assert_same(trainer.learner.gradients[0], gradient_of(model, data, loss))
    assert 0 < sum(capped) < len(capped)
    assert metrics["importance_capped_fraction"] == pytest.approx(sum(capped) / len(capped))


def test_the_cap_in_force_is_the_learners_own(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    """It may be switched on after the start."""
    set_later, configured, without = (
        make_trainer(config.copy(copy_frozen=False)) for _ in range(3)
    )
    configured.config.importance_sampling(cap=2.0)
    set_later.learner.importance_cap = 2.0
    for trainer in (set_later, configured, without):
        trainer.update(make_data())
    (found,), (expected,), (plain,) = (
        t.learner.gradients for t in (set_later, configured, without)
    )

    assert torch.equal(found, expected)
    assert not torch.allclose(found, plain, rtol=1e-3)


def test_responses_that_trainer_and_sampler_disagree_on_have_no_gradient(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    make_groups: MakeGroups,
    sampled_by: Callable[..., dict[int, PromptGroup]],
    model: PreTrainedModel,
    gradient_of: Callable[..., Tensor],
) -> None:
    # The sampler saw some responses as e times more, or less, probable at every token than the
    # trainer does.
    off = {(0, 1): 1.0, (1, 3): -1.0, (3, 0): 0.5}
    groups = sampled_by(model, make_groups())
    for (key, i), nats in off.items():
        moved = replace(
            groups[key].responses[i], logprobs=groups[key].responses[i].logprobs + np.float32(nats)
        )
        responses = tuple(moved if j == i else r for j, r in enumerate(groups[key].responses))
        groups[key] = replace(groups[key], responses=responses)
    trainer, data = (
        make_trainer(config.importance_sampling(sequence_bounds=(0.5, 2.0))),
        make_data(groups=groups),
    )
    metrics = trainer.update(data)

    def loss(planned: TrainResponse, logprobs: Tensor, entropies: Tensor, mask: Tensor) -> Tensor:
        is_in = (planned.group, planned.index) not in {(0, 1), (1, 3)}  # e^-0.5 = 0.61 is within
        return -planned.advantage * logprobs[mask].sum() * is_in

    assert_same(trainer.learner.gradients[0], gradient_of(model, data, loss))
    assert metrics["masked_response_fraction"] == 2 / 16
    tokens = sum(int(r.loss_mask.sum()) for group in groups.values() for r in group.responses)
    left = tokens - sum(
        int(groups[key].responses[i].loss_mask.sum()) for key, i in ((0, 1), (1, 3))
    )
    assert metrics["trained_tokens"] == left
    assert metrics["trained_token_fraction"] == pytest.approx(left / tokens)


# Masks, entropy, divergence


def even_ids(*, response_ids: Tensor, entropy: Tensor, mask: Tensor) -> Tensor:
    return response_ids % 2 == 0


def test_a_masked_token_gives_no_gradient(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    model: PreTrainedModel,
    gradient_of: Callable[..., Tensor],
) -> None:
    config.training(token_mask=even_ids, entropy_coefficient=0.1).kl(coefficient=0.1)
    trainer, data = make_trainer(config), make_data()
    metrics = trainer.update(data)

    def loss(planned: TrainResponse, logprobs: Tensor, entropies: Tensor, mask: Tensor) -> Tensor:
        ids = torch.tensor(data.groups[planned.group].responses[planned.index].token_ids)
        kept = mask & (ids % 2 == 0)
        return -planned.advantage * logprobs[kept].sum() - 0.1 * entropies[kept].sum()

    assert_same(trainer.learner.gradients[0], gradient_of(model, data, loss))
    assert 0 < metrics["trained_token_fraction"] < 1


def test_the_entropy_bonus_is_in_the_gradient(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    model: PreTrainedModel,
    gradient_of: Callable[..., Tensor],
) -> None:
    trainer, data = make_trainer(config.training(entropy_coefficient=0.5)), make_data()
    trainer.update(data)
    expected = gradient_of(
        model,
        data,
        lambda planned, logprobs, entropies, mask: (
            -planned.advantage * logprobs[mask].sum() - 0.5 * entropies[mask].sum()
        ),
    )
    assert_same(trainer.learner.gradients[0], expected)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_the_divergence_is_zero_at_the_start_and_so_is_its_gradient(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data, estimator: str, dtype: str
) -> None:
    config.language_model(dtype=dtype)
    with_kl = make_trainer(config.copy(copy_frozen=False).kl(coefficient=10.0, estimator=estimator))
    without, data = make_trainer(config), make_data()
    assert with_kl.update(data)["kl"] == 0.0
    without.update(data)
    assert torch.equal(with_kl.learner.gradients[0], without.learner.gradients[0])
    assert with_kl.update(data)["kl"] > 0.0


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_the_divergences_gradient_pulls_back_to_the_first_policy(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    model: PreTrainedModel,
    plain_scores: PlainScores,
    gradient_of: Callable[..., Tensor],
    estimator: str,
) -> None:
    trainer, data = (
        make_trainer(config.kl(coefficient=0.5, estimator=estimator)),
        make_data(advantage=0.0),
    )
    trainer.shake()
    policy = load_causal_lm(trainer.config.model_name, dtype=torch.float64)
    policy.load_state_dict(trainer.module.lm.state_dict())
    metrics = trainer.update(data)
    estimates = []

    def loss(planned: TrainResponse, logprobs: Tensor, entropies: Tensor, mask: Tensor) -> Tensor:
        with torch.no_grad():
            reference, _ = plain_scores(model, data.groups[planned.group], planned.index)
        difference = (logprobs - reference)[mask]
        k3 = ((-difference).exp() - 1 + difference).clamp(max=10)
        kl = difference.square() / 2 if estimator == "k2" else k3
        estimates.append(kl.detach())
        return 0.5 * kl.sum()

    assert_same(trainer.learner.gradients[0], gradient_of(policy, data, loss))
    assert metrics["kl"] == pytest.approx(float(torch.cat(estimates).mean()), rel=1e-6)


def test_in_the_reward_the_divergence_is_reported_and_has_no_gradient_of_its_own(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    gradient_of: Callable[..., Tensor],
) -> None:
    trainer, data = make_trainer(config.kl(coefficient=0.5, placement="reward")), make_data()
    trainer.shake()
    policy = load_causal_lm(trainer.config.model_name, dtype=torch.float64)
    policy.load_state_dict(trainer.module.lm.state_dict())
    metrics = trainer.update(data)
    (batch,) = trainer.learner.losses
    places = zip(batch["groups"].tolist(), batch["indices"].tolist(), strict=True)
    advantages = dict(zip(places, batch["advantages"].tolist(), strict=True))
    assert len(set(advantages.values())) == 16

    def loss(planned: TrainResponse, logprobs: Tensor, entropies: Tensor, mask: Tensor) -> Tensor:
        return -advantages[planned.group, planned.index] * logprobs[mask].sum()

    assert_same(trainer.learner.gradients[0], gradient_of(policy, data, loss))
    assert metrics["kl"] > 0


# The reference


def test_the_reference_is_no_part_of_what_is_trained_and_saved(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data, model: PreTrainedModel
) -> None:
    trainer = make_trainer(config.kl(coefficient=0.1))
    (reference,) = trainer.module._reference
    optimizer = trainer.learner.get_optimizer("default_policy")
    optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}

    assert not optimized & {id(p) for p in reference.parameters()}
    assert trainer.module.state_dict().keys() == {
        f"lm.{name}" for name in trainer.module.lm.state_dict()
    }
    tied = {"lm_head.weight"}
    assert trainer.weights().keys() == trainer.module.lm.state_dict().keys() - tied

    for _ in range(2):
        trainer.update(make_data())
    expected = model.state_dict()

    assert all(
        torch.equal(tensor, expected[name]) for name, tensor in reference.lm.state_dict().items()
    )
    assert not any(p.requires_grad for p in reference.parameters())


def test_no_reference_is_held_where_nothing_needs_one(
    make_trainer: MakeTrainer, config: DAPOConfig
) -> None:
    assert make_trainer(config).module._reference == ()
