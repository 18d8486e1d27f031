"""A Learner at rest: what it keeps, and that training goes on as if it had not rested."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.resting import MAIN_MEMORY, move_state
from rllib_dapo.learner.training_data import GroupTrainingData


def test_state_moves_whole_and_what_is_shared_stays_shared() -> None:
    parameters = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = torch.optim.AdamW(parameters)
    table = torch.arange(4.0)
    for i, parameter in enumerate(parameters):
        optimizer.state[parameter] = {"moment": torch.full((3,), float(i)), "table": table, "n": 7}

    move_state(optimizer, torch.device("meta"))
    states = [optimizer.state[parameter] for parameter in parameters]
    assert [s["moment"].device.type for s in states] == ["meta", "meta"]
    assert states[0]["table"] is states[1]["table"]
    assert states[0]["moment"] is not states[1]["moment"]
    assert [s["n"] for s in states] == [7, 7]
    assert all(p.device.type == "cpu" for p in parameters)

    move_state(torch.optim.AdamW(parameters), MAIN_MEMORY)  # before its first step


def test_rests_between_updates_change_nothing(
    make_trainer: Callable[[DAPOConfig], Any],
    learner_config: Callable[..., DAPOConfig],
    make_data: Callable[..., GroupTrainingData],
) -> None:
    resting, busy = (make_trainer(learner_config().kl(coefficient=0.1)) for _ in range(2))
    for _ in range(2):
        resting.learner.resume()
        resting.update(make_data())
        busy.update(make_data())
        resting.learner.rest()
    assert resting.has_weights(busy.weights())


def test_gradients_of_an_update_that_failed_are_gone(
    make_trainer: Callable[[DAPOConfig], Any],
    learner_config: Callable[..., DAPOConfig],
    make_data: Callable[..., GroupTrainingData],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = make_trainer(learner_config())

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    parameters = list(trainer.learner.policy_module.parameters())
    with monkeypatch.context() as patched:
        patched.setattr(trainer.learner, "_step", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            trainer.update(make_data())
    assert any(p.grad is not None for p in parameters)

    trainer.learner.rest()
    assert all(p.grad is None for p in parameters)
    assert not trainer.learner.get_optimizer(DEFAULT_MODULE_ID).state
