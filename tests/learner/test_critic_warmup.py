"""The critic's own learning rate, and the training steps in which it learns alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from torch import Tensor

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.critic_warmup import critics_outputs
from rllib_dapo.learner.planned_batch import MicroBatch
from rllib_dapo.learner.training_data import GroupTrainingData

MakeTrainer = Callable[[DAPOConfig], Any]
Data = Callable[..., GroupTrainingData]

LR, CRITIC_LR = 1e-3, 2e-2
HEAD_SIZE = 128 + 1


@pytest.fixture
def config(learner_config: Callable[..., DAPOConfig]) -> DAPOConfig:
    """Steps that are easy to foretell: no decay, no term in the denominator, no clipping."""
    return (
        learner_config()
        .training(
            advantage_estimator="gae",
            lr=LR,
            weight_decay=0.0,
            adam_epsilon=1e-12,
            grad_clip=None,
        )
        .critic(lr=CRITIC_LR)
    )


def policy_weights(trainer: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.module.lm.parameters()])


def head_weights(trainer: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.module.value_head.parameters()])


def moments(trainer: Any) -> dict[Any, Any]:
    return dict(trainer.learner.get_optimizer(DEFAULT_MODULE_ID).state)


# Two rates


@pytest.mark.parametrize(("lr", "expected"), [(CRITIC_LR, CRITIC_LR), (None, LR), (LR / 10, 1e-4)])
def test_a_first_step_moves_the_head_by_its_own_rate_and_the_model_by_the_policys(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    lr: float | None,
    expected: float,
) -> None:
    """From zero moments AdamW moves a weight by the rate, against the sign of its gradient."""
    trainer = make_trainer(config.critic(lr=lr))
    policy, head = policy_weights(trainer), head_weights(trainer)
    trainer.update(make_data())

    (gradient,) = trainer.learner.gradients
    of_policy, of_head = gradient[:-HEAD_SIZE], gradient[-HEAD_SIZE:]
    for before, after, grad, rate in (
        (policy, policy_weights(trainer), of_policy, LR),
        (head, head_weights(trainer), of_head, expected),
    ):
        is_clear = grad.abs() > 1e-6
        assert is_clear.any()
        moved = (after - before)[is_clear]
        torch.testing.assert_close(moved, -rate * grad[is_clear].sign(), rtol=1e-3, atol=1e-7)


@pytest.mark.slow
def test_a_critic_learns_at_a_rate_at_which_the_policy_hardly_moves(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    """At the paper's rate of 1e-6 thirty steps of a head of zeros leave it one of zeros."""

    def last_loss(lr: float | None) -> float:
        trainer = make_trainer(config.copy(copy_frozen=False).training(lr=1e-6).critic(lr=lr))
        return [trainer.update(make_data(reward=0.5))["value_loss"] for _ in range(30)][-1]

    first = 0.5**2 / 2
    assert last_loss(None) > 0.9 * first
    assert last_loss(1e-3) < 0.1 * first


def test_without_a_critic_there_is_one_group_and_no_warm_up(
    make_trainer: MakeTrainer, learner_config: Callable[..., DAPOConfig], make_data: Data
) -> None:
    trainer = make_trainer(learner_config().training(lr=LR).critic(lr=CRITIC_LR, warmup=2))
    before = policy_weights(trainer)
    trainer.update(make_data())
    assert len(trainer.learner.get_optimizer(DEFAULT_MODULE_ID).param_groups) == 1
    assert trainer.learner.rates == [LR]
    assert not torch.equal(policy_weights(trainer), before)


# The warm-up


def test_in_the_warm_up_no_bit_of_the_language_model_changes_and_the_value_head_moves(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    """Neither by the loss of the policy, nor by that of the values, nor by weight decay."""
    trainer = make_trainer(config.training(weight_decay=0.5).critic(warmup=2))
    policy, head = policy_weights(trainer), head_weights(trainer)
    first, _ = (trainer.update(make_data(minibatches=2)) for _ in range(2))

    assert torch.equal(policy_weights(trainer), policy)
    assert not (head_weights(trainer) == head).any()
    assert {len(gradient) for gradient in trainer.learner.gradients} == {HEAD_SIZE}
    assert set(moments(trainer)) == set(trainer.module.value_head.parameters())
    assert first["gradient_norm"] == pytest.approx(
        float(sum(g.norm() for g in trainer.learner.gradients[:2])) / 2
    )

    # What is said of the policy is said as ever.
    assert first["policy_loss"] != 0
    assert first["gradient_updates"] == 2
    assert first["ratio_mean"] == pytest.approx(1)

    trainer.update(make_data())
    assert not torch.equal(policy_weights(trainer), policy)


def test_the_policys_first_step_after_the_warm_up_is_one_from_zero_moments(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    """Steps that were counted for it, or moments of zeros, would make it three times as long."""
    trainer = make_trainer(config.critic(warmup=1))
    before = policy_weights(trainer)
    for _ in range(2):
        trainer.update(make_data(minibatches=3 if trainer.learner.rates == [] else 1))

    gradient = trainer.learner.gradients[-1][:-HEAD_SIZE]
    is_clear = gradient.abs() > 1e-6
    moved = (policy_weights(trainer) - before)[is_clear]
    torch.testing.assert_close(moved, -LR * gradient[is_clear].sign(), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(
    ("warmup", "policy", "critic"),
    [
        # A warm-up of the rate over 4 optimizer steps, then 4 steps down to a fifth.
        (
            0,
            [0.025, 0.05, 0.075, 0.1, 0.08, 0.06, 0.04, 0.02, 0.02, 0.02, 0.02, 0.02],
            [0.125, 0.25, 0.375, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1],
        ),
        # All of that two training steps, which are four optimizer steps, later.
        (
            2,
            [0, 0, 0, 0, 0.025, 0.05, 0.075, 0.1, 0.08, 0.06, 0.04, 0.02],
            [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.4, 0.3, 0.2, 0.1],
        ),
    ],
    ids=["no warm-up", "two training steps"],
)
def test_the_policys_schedule_begins_after_the_critics_warm_up(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    warmup: int,
    policy: list[float],
    critic: list[float],
) -> None:
    config.training(
        lr=0.1, warmup_steps=2, lr_schedule="linear", lr_decay_updates=4, lr_end_fraction=0.2
    )
    trainer = make_trainer(config.critic(lr=0.5, warmup=warmup))
    for _ in range(6):
        trainer.update(make_data(minibatches=2))
    assert trainer.learner.rates == pytest.approx(policy)
    assert trainer.learner.critic_rates == pytest.approx(critic)


def test_a_step_of_the_warm_up_is_not_counted_as_one_of_the_schedule(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    """Not even where the learning rate has no warm-up of its own, so that any step would be."""
    trainer = make_trainer(config.critic(warmup=1))
    counted = []
    for _ in range(3):
        trainer.update(make_data(minibatches=2))
        counted.append(trainer.learner.updates_after_warmup)
    assert counted == [0, 2, 4]


def test_a_loss_of_the_policy_cannot_reach_it_in_the_warm_up() -> None:
    """Where every parameter must have a gradient, the policy's is of zeros."""
    torch.manual_seed(0)
    trunk, head = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
    batch = {"x": torch.randn(2, 4, 3)}

    def forward(batch: MicroBatch) -> dict[str, Tensor]:
        hidden = trunk(batch["x"])
        values = head(hidden.flatten(0, 1)).view(2, 4)
        return {"logprobs": hidden.sum(-1), "entropy": hidden.exp().sum(-1), "values": values}

    expected = forward(batch)
    for zeros_elsewhere in (False, True):
        outputs = critics_outputs(
            batch, forward=forward, value_head=head, zeros_elsewhere=zeros_elsewhere
        )
        for name, tensor in expected.items():
            assert torch.equal(outputs[name], tensor)
        sum(tensor.square().sum() for tensor in outputs.values()).backward()
        assert head.weight.grad.abs().min() > 0
        if zeros_elsewhere:
            assert not trunk.weight.grad.any()
        else:
            assert trunk.weight.grad is None

    # The head is as it was: its values train the model again.
    forward(batch)["values"].sum().backward()
    assert trunk.weight.grad.any()
