"""What is done to a model before it is trained: layers are frozen, dropout is switched off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import FalconConfig, GPT2Config, LlamaConfig, OPTConfig, PretrainedConfig

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.model_setup import decoder_layers, disable_dropout, freeze_first_layers
from rllib_dapo.learner.training_data import GroupTrainingData
from rllib_dapo.models import load_causal_lm

LearnerConfig = Callable[..., DAPOConfig]
MakeTrainer = Callable[[DAPOConfig], Any]
Data = Callable[..., GroupTrainingData]
RandomModel = Callable[[PretrainedConfig, Path], Path]

TOKENS = {"vocab_size": 100, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SMALL = TOKENS | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
UNTIED = LlamaConfig(
    **SMALL, intermediate_size=64, num_key_value_heads=1, tie_word_embeddings=False
)
# A module for each dropout, numbers in modules, numbers looked up in the configuration.
DROPPING = [
    GPT2Config(**SMALL, resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5),
    OPTConfig(**SMALL, ffn_dim=64, word_embed_proj_dim=32, dropout=0.5, attention_dropout=0.5),
    FalconConfig(**SMALL, alibi=False, hidden_dropout=0.5, attention_dropout=0.5),
]


def moved(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {name for name, array in before.items() if not np.array_equal(array, after[name])}


def test_frozen_layers_stay_bit_for_bit_and_tied_embeddings_are_trained(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    trainer = make_trainer(learner_config().language_model(freeze_fraction=0.5))
    before = trainer.weights()
    for _ in range(2):
        trainer.update(make_data())
    frozen = {name for name in before if name.startswith("model.layers.0.")}

    assert len(frozen) == 9
    assert moved(before, trainer.weights()) == before.keys() - frozen
    assert {"model.embed_tokens.weight", "model.norm.weight"} <= before.keys() - frozen


def test_untied_input_embeddings_are_frozen_with_the_first_layers(
    make_trainer: MakeTrainer,
    learner_config: LearnerConfig,
    make_data: Data,
    random_model: RandomModel,
    tmp_path: Path,
) -> None:
    folder = random_model(UNTIED, tmp_path / "model")
    trainer = make_trainer(learner_config(folder).language_model(freeze_fraction=0.1))
    before = trainer.weights()
    trainer.update(make_data())
    frozen = {
        n for n in before if n.startswith("model.layers.0.") or n == "model.embed_tokens.weight"
    }
    assert moved(before, trainer.weights()) == before.keys() - frozen
    assert "lm_head.weight" not in frozen


def test_frozen_weights_take_no_room_in_the_optimizer(
    make_trainer: MakeTrainer, learner_config: LearnerConfig, make_data: Data
) -> None:
    trainer = make_trainer(learner_config().language_model(freeze_fraction=0.5))
    trainer.update(make_data())
    optimizer = trainer.learner.get_optimizer("default_policy")
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in trainer.module.parameters() if p.requires_grad}
    assert len(held) == len(optimizer.state) < len(list(trainer.module.parameters()))


@pytest.mark.parametrize(
    ("fraction", "layers"), [(0.0, 0), (0.1, 1), (0.2, 1), (0.21, 2), (0.5, 3), (0.8, 4), (0.99, 5)]
)
def test_a_share_of_the_layers_is_rounded_up(
    random_model: RandomModel, tmp_path: Path, fraction: float, layers: int
) -> None:
    config = LlamaConfig(
        **SMALL | {"num_hidden_layers": 5}, intermediate_size=64, num_key_value_heads=1
    )
    model = load_causal_lm(random_model(config, tmp_path / "model"), dtype=torch.float32)
    assert freeze_first_layers(model, fraction) == layers
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in decoder_layers(model)]
    assert trained == [False] * layers + [True] * (5 - layers)
    assert all(p.requires_grad for p in model.model.norm.parameters())


@pytest.mark.parametrize("config", DROPPING, ids=lambda config: config.model_type)
def test_layers_are_found_and_dropout_is_off_in_every_kind_of_model(
    random_model: RandomModel, tmp_path: Path, config: PretrainedConfig
) -> None:
    model = load_causal_lm(random_model(config, tmp_path / "model"), dtype=torch.float32).train()
    ids = torch.arange(3, 40)[None]
    dropping = (model(ids).logits, model(ids).logits)
    assert not torch.equal(*dropping)
    disable_dropout(model)
    assert torch.equal(model(ids).logits, model(ids).logits)
    assert len(decoder_layers(model)) == 2


def test_a_model_without_a_list_of_layers_is_refused_with_the_way_out(raw_model: Path) -> None:
    model = load_causal_lm(raw_model, dtype=torch.float32)
    model.config.num_hidden_layers = 7
    with pytest.raises(
        ValueError, match=r"^language_model\.freeze_fraction: no list of 7 layers .*; set it to 0$"
    ):
        freeze_first_layers(model, 0.5)
    assert freeze_first_layers(model, 0.0) == 0
