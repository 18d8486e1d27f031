"""Groups of parameters, their rates, and steps that leave one of them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.module import CausalLMModule
from rllib_dapo.learner.optimizer import (
    critic_steps_alone,
    in_groups,
    make_optimizer,
    parameter_groups,
    set_learning_rates,
)
from rllib_dapo.learner.schedule import LearningRates

BuildModule = Callable[..., CausalLMModule]
GAE = {"advantage_estimator": "gae"}


def test_the_value_head_is_a_group_of_its_own_and_frozen_layers_are_in_none(
    build_module: BuildModule, learner_config: Callable[..., DAPOConfig]
) -> None:
    config = learner_config().training(**GAE).language_model(freeze_fraction=0.5)
    module = build_module(config)
    policy, critic = parameter_groups(module)
    assert critic["params"] == list(module.value_head.parameters())
    assert policy["params"] == [p for p in module.lm.parameters() if p.requires_grad]
    assert len(policy["params"]) < len(list(module.lm.parameters()))

    (only,) = parameter_groups(build_module(learner_config()))
    assert only.keys() == {"params"}


def two_groups() -> tuple[nn.Parameter, nn.Parameter, torch.optim.AdamW]:
    policy, critic = (nn.Parameter(torch.ones(3)) for _ in range(2))
    groups: list[dict[str, Any]] = [
        {"params": [policy]},
        {"params": [critic], "is_critic": True},
    ]
    return policy, critic, make_optimizer(groups, DAPOConfig().training(weight_decay=0.5))


def test_each_group_has_its_rate_also_where_groups_are_shown_one_at_a_time() -> None:
    _, _, optimizer = two_groups()
    both = optimizer.param_groups
    for shown in (both, both[1:], both[:1]):
        optimizer.param_groups = shown
        set_learning_rates(optimizer, LearningRates(policy=0.25, critic=0.5))
    assert [group["lr"] for group in both] == [0.25, 0.5]


def test_a_step_of_the_critic_alone_leaves_the_policy_its_weights_moments_and_gradient() -> None:
    policy, critic, optimizer = two_groups()
    set_learning_rates(optimizer, LearningRates(policy=0.1, critic=0.1))
    policy.grad = buffer = torch.full((3,), 7.0)
    critic.grad = torch.full((3,), -1.0)

    with critic_steps_alone(optimizer):
        optimizer.step()
    assert policy.tolist() == [1.0, 1.0, 1.0]
    assert policy.grad is buffer
    assert policy not in optimizer.state
    # It decays by lr * weight_decay and moves by lr against the sign of its gradient.
    assert critic.tolist() == pytest.approx([1 * (1 - 0.1 * 0.5) + 0.1] * 3)

    optimizer.step()
    assert policy.tolist() == pytest.approx([1 * (1 - 0.1 * 0.5) - 0.1] * 3)
    assert (int(optimizer.state[policy]["step"]), int(optimizer.state[critic]["step"])) == (1, 2)


def test_a_state_of_one_group_is_loaded_into_two() -> None:
    """A checkpoint of an earlier version: the same parameters in the same order."""
    policy, critic, optimizer = two_groups()
    policy.grad, critic.grad = torch.full((3,), 1.0), torch.full((3,), 2.0)
    optimizer.step()
    state = optimizer.state_dict()
    first, second = state["param_groups"]
    old = state | {"param_groups": [first | {"params": [*first["params"], *second["params"]]}]}

    _, _, other = two_groups()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        other.load_state_dict(old)
    other.load_state_dict(in_groups(old, other))
    assert [group.get("is_critic") for group in other.param_groups] == [None, True]
    for before, after in zip(optimizer.state.values(), other.state.values(), strict=True):
        assert torch.equal(before["exp_avg"], after["exp_avg"])

    assert in_groups(state, other) is state
