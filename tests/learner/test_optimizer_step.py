"""Which optimizer step is made of a gradient: clipped, left out, and at what learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.training_data import GroupTrainingData

LearnerConfig = Callable[..., DAPOConfig]
MakeTrainer = Callable[[DAPOConfig], Any]
Data = Callable[..., GroupTrainingData]


@pytest.mark.parametrize("advantage", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_left_out_and_counted(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data, advantage: float
) -> None:
    trainer = make_trainer(learner_config().training(warmup_steps=0))
    before = trainer.weights()
    metrics = trainer.update(make_data(advantage=advantage))

    assert (metrics["skipped_updates"], metrics["gradient_updates"]) == (1, 0)
    assert trainer.learner.updates_after_warmup == 0  # the schedule counts steps that were taken
    assert metrics["num_gradient_updates_lifetime"] == 0
    assert trainer.has_weights(before)
    assert metrics["skipped_updates_in_a_row"] == 1
    assert "total_loss" not in metrics, "no step was taken, so there is none"

    metrics = trainer.update(make_data())
    assert (metrics["skipped_updates"], metrics["gradient_updates"]) == (0, 1)
    assert metrics["skipped_updates_in_a_row"] == 0
    assert np.isfinite(metrics["total_loss"])
    assert trainer.learner.updates_after_warmup == 1
    assert all(np.isfinite(array).all() for array in trainer.weights().values())
    assert not trainer.has_weights(before)


def test_a_step_that_is_left_out_makes_no_nan_of_the_figures_of_the_others(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    trainer = make_trainer(learner_config().training(warmup_steps=0))
    factors = iter([float("nan"), 1.0])
    trainer.module.lm.get_output_embeddings().weight.register_hook(
        lambda gradient: gradient * next(factors)
    )
    metrics = trainer.update(make_data(minibatches=2))
    assert (metrics["skipped_updates"], metrics["gradient_updates"]) == (1, 1)
    assert all(np.isfinite(value) for value in metrics.values())


def test_the_learning_rate_warms_up_over_training_steps_and_stays(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    trainer = make_trainer(learner_config().training(lr=0.1, warmup_steps=2))
    for _ in range(3):
        trainer.update(make_data(minibatches=2))
    assert trainer.learner.rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        # warm-up over 4 optimizer steps, of which the last has the full rate; then 4 steps down to
        # a fifth
        ("linear", [0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2]),
        ("cosine", [0.25, 0.5, 0.75, 1.0, 0.882843, 0.6, 0.317157, 0.2, 0.2, 0.2]),
    ],
)
def test_the_learning_rate_decays_by_optimizer_steps_after_the_warm_up(
    make_trainer: MakeTrainer,
    learner_config: LearnerConfig,
    make_data: Data,
    schedule: str,
    factors: list[float],
) -> None:
    config = learner_config().training(
        lr=0.1, warmup_steps=2, lr_schedule=schedule, lr_decay_updates=4, lr_end_fraction=0.2
    )
    trainer = make_trainer(config)
    for _ in range(5):
        trainer.update(make_data(minibatches=2))
    assert trainer.learner.rates == pytest.approx([0.1 * factor for factor in factors])


def test_the_gradient_is_clipped_by_its_global_norm(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    free = make_trainer(learner_config().training(grad_clip=None))
    clipped = make_trainer(learner_config().training(grad_clip=0.01))
    free_metrics, clipped_metrics = free.update(make_data()), clipped.update(make_data())
    (whole,), (short,) = free.learner.gradients, clipped.learner.gradients
    norm = float(whole.norm())
    assert norm > 0.1
    for metrics in (free_metrics, clipped_metrics):
        assert metrics["gradient_norm"] == pytest.approx(norm, rel=1e-4)
        assert metrics["gradient_norm_max"] == metrics["gradient_norm"]
    torch.testing.assert_close(short, whole * 0.01 / norm, rtol=1e-3, atol=1e-7)


def test_a_step_is_adamws(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    """From zero moments, a weight decays by lr * weight_decay and moves by lr against its sign."""
    config = learner_config().training(
        lr=1e-3, weight_decay=0.5, adam_epsilon=1e-12, grad_clip=None
    )
    trainer = make_trainer(config)
    before = torch.cat([parameter.detach().flatten() for parameter in trainer.module.parameters()])
    trainer.update(make_data())
    after = torch.cat([parameter.detach().flatten() for parameter in trainer.module.parameters()])
    (gradient,) = trainer.learner.gradients
    moved = gradient.abs() > 1e-6
    expected = before * (1 - 1e-3 * 0.5) - 1e-3 * gradient.sign()
    torch.testing.assert_close(after[moved], expected[moved], rtol=0, atol=1e-6)
