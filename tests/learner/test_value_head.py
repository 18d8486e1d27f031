"""The value model: what it learns, and where it is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rllib_dapo import DAPOConfig
from rllib_dapo.checkpoint.export import export_checkpoint
from rllib_dapo.learner.model_folder import MODULE_PATH, VALUE_HEAD_FOLDER
from rllib_dapo.learner.module import CausalLMModule
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.models import load_causal_lm

MakeTrainer = Callable[[DAPOConfig], Any]
Data = Callable[..., GroupTrainingData]
BuildModule = Callable[..., CausalLMModule]


@pytest.fixture
def config(learner_config: Callable[..., DAPOConfig]) -> DAPOConfig:
    return learner_config().training(advantage_estimator="gae", lr=1e-3)


def test_values_begin_at_zero_and_learn_the_returns(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    """Every response earns 0.5: with lambda and gamma of 1 that is every token's return."""
    trainer = make_trainer(config.training(lr=3e-3).critic(value_clip=None, lr=3e-3))
    first = trainer.update(make_data(reward=0.5))
    assert first["value_loss"] == pytest.approx(0.5**2 / 2)
    assert float(trainer.learner.losses[0]["values"].abs().max()) == 0.0

    # The policy learns at the same time and shakes what both stand on: the best of all updates
    # counts, not the last one.
    losses = [trainer.update(make_data(reward=0.5))["value_loss"] for _ in range(30)]
    errors = [
        float((batch["values"][batch["mask"]] - 0.5).abs().mean())
        for batch in trainer.learner.losses
    ]
    assert min(errors) < 0.1
    assert min(losses) < first["value_loss"] / 10


@pytest.mark.parametrize(
    "narrow",
    [
        lambda config: config.training(entropy_mask_fraction=0.3),
        lambda config: config.importance_sampling(sequence_bounds=(0.999, 1.001)),
    ],
    ids=["entropy mask", "sequences left out"],
)
def test_what_is_left_out_of_the_policys_loss_still_teaches_the_values(
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    narrow: Callable[[DAPOConfig], DAPOConfig],
) -> None:
    whole = make_trainer(config.copy(copy_frozen=False)).update(make_data(reward=0.5))
    narrowed = make_trainer(narrow(config)).update(make_data(reward=0.5))
    assert narrowed["trained_tokens"] < whole["trained_tokens"]
    assert narrowed["value_loss"] == pytest.approx(whole["value_loss"]) != 0


def test_the_value_head_is_among_the_optimizers_parameters_and_moves(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    trainer = make_trainer(config)
    before = {
        name: tensor.clone() for name, tensor in trainer.module.value_head.state_dict().items()
    }
    trainer.update(make_data())
    after = trainer.module.value_head.state_dict()
    assert not any(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_the_hidden_states_are_those_before_each_token(
    build_module: BuildModule,
    make_trainer: MakeTrainer,
    config: DAPOConfig,
    make_data: Data,
    raw_model: Path,
) -> None:
    """The value belongs to the state before the token, so it must not have seen the token."""
    trainer, data = make_trainer(config), make_data()
    head = trainer.module.value_head
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(0))
    model = load_causal_lm(raw_model, dtype=torch.float32)
    (plan,) = data.shards[0]
    (planned,) = trainer.learner.plan_batches(plan, data)
    batch = planned.tensors()
    with torch.no_grad():
        values = trainer.learner.forward_micro_batch(batch)["values"]
        for row, planned in zip(values, plan[0].responses, strict=True):
            group = data.groups[planned.group]
            response = group.responses[planned.index]
            ids = torch.tensor([[*group.prompt_ids.tolist(), *response.token_ids.tolist()]])
            hidden = model.base_model(ids).last_hidden_state[0, len(group.prompt_ids) - 1 : -1]
            mask = torch.tensor(response.loss_mask)
            expected = head(hidden).squeeze(-1)[mask]
            torch.testing.assert_close(row[: len(mask)][mask], expected, rtol=0, atol=1e-4)
            assert (row[len(mask) :] == 0).all()


def test_a_checkpoint_keeps_the_value_head_in_a_folder_of_its_own_and_an_export_leaves_it(
    make_trainer: MakeTrainer,
    build_module: BuildModule,
    config: DAPOConfig,
    make_data: Data,
    tmp_path: Path,
) -> None:
    trainer = make_trainer(config)
    trainer.update(make_data())
    folder = tmp_path / MODULE_PATH
    trainer.module.save_to_path(folder)
    head = load_file(folder / VALUE_HEAD_FOLDER / "model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in head.items()} == {
        "weight": (1, 128),
        "bias": (1,),
    }
    assert not any("value_head" in name for name in load_file(folder / "model.safetensors"))

    restored = build_module(config)
    restored.restore_from_path(folder)
    found, expected = restored.get_state(), trainer.weights()
    assert {"value_head.weight", "value_head.bias"} <= found.keys()
    assert found.keys() == expected.keys()
    assert all(np.array_equal(array, expected[name]) for name, array in found.items())

    export = export_checkpoint(tmp_path, tmp_path / "export")
    assert not (export / VALUE_HEAD_FOLDER).exists()
    exported = load_causal_lm(export, dtype=torch.float32).state_dict()
    del exported["lm_head.weight"]  # which is tied
    assert all(np.array_equal(tensor.numpy(), expected[name]) for name, tensor in exported.items())


def test_a_value_head_begins_anew_on_a_model_that_has_none(
    build_module: BuildModule,
    learner_config: Callable[..., DAPOConfig],
    config: DAPOConfig,
    tmp_path: Path,
) -> None:
    build_module(learner_config()).save_to_path(tmp_path)
    module = build_module(config)
    module.restore_from_path(tmp_path)
    assert not module.value_head.weight.any()


def test_a_state_carries_the_value_head_and_an_engine_is_not_given_it(
    make_trainer: MakeTrainer, config: DAPOConfig, make_data: Data
) -> None:
    trainer, other = make_trainer(config), make_trainer(config.copy(copy_frozen=False))
    trainer.update(make_data())
    other.group.set_state(trainer.group.get_state())
    assert other.has_weights(trainer.weights())
    assert trainer.weights().keys() - dict(trainer.learner.engine_weights()).keys() == {
        "value_head.weight",
        "value_head.bias",
    }
