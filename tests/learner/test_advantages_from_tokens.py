"""Advantages that need tokens: less a divergence, or with a critic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rllib_dapo import DAPOConfig
from rllib_dapo.core import (
    BATCH_ESTIMATORS,
    generalized_advantages,
    group_advantages,
    kl_estimates,
    terminal_rewards,
)
from rllib_dapo.learner.training_data import GroupTrainingData

LearnerConfig = Callable[..., DAPOConfig]
MakeTrainer = Callable[[DAPOConfig], Any]
Data = Callable[..., GroupTrainingData]
ByResponse = Callable[..., dict[tuple[int, int], Tensor]]
Change = Callable[[DAPOConfig], DAPOConfig]

# The divergence in the reward


@pytest.mark.parametrize(
    ("estimator", "settings", "options"),
    [
        ("k1", {}, {}),
        ("k3", {"normalize_advantages_by_std": False}, {"normalize_by_std": False}),
        ("k3", {"advantage_estimator": "leave_one_out"}, {"leave_one_out": True}),
    ],
    ids=["k1", "k3 without std", "leave one out"],
)
def test_rewards_less_the_divergence_are_what_groups_compare(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    by_response: ByResponse,
    plan: dict[str, int],
    estimator: str,
    settings: dict[str, Any],
    options: dict[str, bool],
) -> None:
    """Though a group lies in two mini-batches and many micro-batches."""
    config.kl(coefficient=0.3, estimator=estimator, placement="reward").training(**settings)
    trainer = make_trainer(config)
    trainer.shake()
    batches = trainer.prepared_batches(make_data(minibatches=3, plan=plan))
    policy, reference, advantages = (
        by_response(batches, name) for name in ("policy_logprobs", "ref_logprobs", "advantages")
    )
    rewards = {}
    for (group, index), logprobs in policy.items():
        difference = logprobs - reference[group, index]
        k3 = ((-difference).exp() - 1 + difference).clamp(max=10)
        kl = difference if estimator == "k1" else k3
        assert float(kl.abs().sum()) > 1e-3
        rewards[group, index] = (-1.0, 1.0, 0.25, 0.5)[index] - 0.3 * float(kl.sum())

    assert rewards == pytest.approx(
        {k: float(v) for k, v in by_response(batches, "rewards").items()}, abs=1e-9
    )

    for group in range(4):
        expected = group_advantages(torch.tensor([rewards[group, i] for i in range(4)]), **options)
        found = torch.stack([advantages[group, i] for i in range(4)])
        torch.testing.assert_close(found, expected.to(found.dtype), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", BATCH_ESTIMATORS)
def test_an_estimator_of_the_batch_compares_all_rewards_less_the_divergence(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    by_response: ByResponse,
    plans: list[dict[str, int]],
    name: str,
) -> None:
    config.kl(coefficient=0.3, placement="reward").training(advantage_estimator=name)
    trainer = make_trainer(config)
    trainer.shake()
    for plan in plans:
        batches = trainer.prepared_batches(make_data(minibatches=3, plan=plan))
        rewards, found = (by_response(batches, key) for key in ("rewards", "advantages"))
        table = torch.tensor([[float(rewards[g, i]) for i in range(4)] for g in range(4)])
        expected = BATCH_ESTIMATORS[name](table.double())
        for (group, index), advantage in found.items():
            assert float(advantage) == pytest.approx(float(expected[group, index]), abs=1e-6)


def test_in_the_loss_the_divergence_leaves_rewards_and_advantages_alone(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data, by_response: ByResponse
) -> None:
    trainer, data = make_trainer(config.kl(coefficient=0.3)), make_data(minibatches=2)
    trainer.shake()
    planned = {
        (r.group, r.index): r for plan in data.shards[0] for micro in plan for r in micro.responses
    }
    batches = trainer.prepared_batches(data)
    for name in ("advantages", "rewards"):
        values = {key: float(value) for key, value in by_response(batches, name).items()}
        assert values == {
            key: getattr(response, name.removesuffix("s")) for key, response in planned.items()
        }


# The critic


def shaken_critic(make_trainer: MakeTrainer, config: DAPOConfig) -> Any:
    """A Learner whose values are not all 0 and whose policy is not its reference."""
    trainer = make_trainer(
        config.training(advantage_estimator="gae", gamma=0.9).critic(gae_lambda=0.8)
    )
    trainer.shake()
    with torch.no_grad():
        torch.nn.init.normal_(
            trainer.module.value_head.weight, std=0.3, generator=torch.Generator().manual_seed(0)
        )
        trainer.module.value_head.bias.fill_(0.1)
    return trainer


@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_a_critics_advantages_are_those_of_core_whitened_over_all_tokens(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    by_response: ByResponse,
    plan: dict[str, int],
    kl: float,
) -> None:
    trainer = shaken_critic(make_trainer, config.kl(coefficient=kl, placement="reward"))
    batches = trainer.prepared_batches(make_data(minibatches=2, plan=plan))
    raw: dict[tuple[int, int], Tensor] = {}
    for batch in batches:
        rewards = terminal_rewards(batch["rewards"], batch["mask"])
        if kl:
            rewards = rewards - kl * kl_estimates(
                batch["policy_logprobs"], batch["ref_logprobs"], batch["mask"], estimator="k3"
            )
        advantages, returns = generalized_advantages(
            rewards, batch["old_values"], batch["mask"], gamma=0.9, gae_lambda=0.8
        )
        torch.testing.assert_close(batch["returns"], returns, rtol=0, atol=1e-12)
        raw |= by_response([{**batch, "raw": advantages}], "raw")
    tokens = torch.cat(list(raw.values()))
    found = by_response(batches, "advantages")
    for key, advantages in raw.items():
        expected = (advantages - tokens.mean()) / (tokens.std(correction=0) + 1e-6)
        torch.testing.assert_close(found[key], expected, rtol=0, atol=1e-9)

    assert float(torch.cat(list(found.values())).mean()) == pytest.approx(0.0, abs=1e-9)
    assert all(not batch["advantages"][~batch["mask"]].any() for batch in batches)


def test_a_critics_advantages_do_not_depend_on_the_cut(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    by_response: ByResponse,
    plans: list[dict[str, int]],
) -> None:
    trainer = shaken_critic(make_trainer, config.kl(coefficient=0.3, placement="reward"))
    for name in ("advantages", "returns"):
        whole, *others = (
            by_response(trainer.prepared_batches(make_data(minibatches=2, plan=plan)), name)
            for plan in plans
        )
        for cut in others:
            for key, values in whole.items():
                torch.testing.assert_close(cut[key], values, rtol=0, atol=1e-6)


def test_without_division_by_the_deviation_a_critics_advantages_are_as_they_are(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    trainer = shaken_critic(make_trainer, config.training(normalize_advantages_by_std=False))
    for batch in trainer.prepared_batches(make_data(minibatches=2)):
        rewards = terminal_rewards(batch["rewards"], batch["mask"])
        expected, _ = generalized_advantages(
            rewards, batch["old_values"], batch["mask"], gamma=0.9, gae_lambda=0.8
        )
        torch.testing.assert_close(batch["advantages"], expected, rtol=0, atol=1e-12)
