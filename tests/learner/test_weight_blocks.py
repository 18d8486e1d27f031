"""A Learner's checksums are those of what it trains, whatever it sends."""

from __future__ import annotations

from collections.abc import Callable

import torch

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.module import CausalLMModule
from rllib_dapo.learner.weight_blocks import learner_checksums

Build = Callable[..., CausalLMModule]


def test_the_parts_of_all_turns_see_every_change_of_a_bit(
    build_module: Build, learner_config: Callable[..., DAPOConfig]
) -> None:
    module = build_module(learner_config())
    before = [learner_checksums(module, elements=50 * 128, turn=turn) for turn in range(6)]
    assert len(before[0]) == 20  # the output projection is tied, and so counted once

    name = "model.layers.1.mlp.down_proj.weight"
    weight = module.lm.get_parameter(name).data
    weight[3, 7] = torch.nextafter(weight[3, 7], torch.tensor(9.0))
    after = [learner_checksums(module, elements=50 * 128, turn=turn) for turn in range(6)]

    changed = {
        (turn, key)
        for turn in range(6)
        for key in after[0]
        if before[turn][key] != after[turn][key]
    }
    assert changed == {(0, name)}  # column 7 is in the first block of fifty


def test_they_are_taken_in_the_type_that_engines_have(
    build_module: Build, learner_config: Callable[..., DAPOConfig]
) -> None:
    config = learner_config().language_model(dtype="bfloat16")
    module = build_module(config)
    before = learner_checksums(module, elements=2048, turn=0)

    for weight in module.lm.parameters():  # masters stay in float32, and this much rounds away
        weight.data.copy_(weight.data.bfloat16().float() * (1 + 1e-4))
    assert learner_checksums(module, elements=2048, turn=0) == before
