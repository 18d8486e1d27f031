"""Experts that Learners hold fused, and sharded, leave them as their checkpoint has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID
from safetensors.torch import load_file

from rllib_dapo import DAPOConfig
from rllib_dapo.envs import TextSpace
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.weight_transfer.object_store import fetched, put_pieces


@pytest.mark.slow
@pytest.mark.parametrize(("num_learners", "stage"), [(0, 3), (2, 3), (2, 1)])
def test_weights_are_sent_as_the_files_have_them(
    cluster: None, mixture: Path, num_learners: int, stage: int
) -> None:
    config = (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model(str(mixture), dtype="float32", num_threads=1)
        .rollout(engine="transformers", max_prompt_tokens=8, max_response_tokens=8)
        .overlong(buffer_tokens=2)
        .learners(num_learners=num_learners)
        .deepspeed({"zero_optimization": {"stage": stage}})
    )
    spaces = {DEFAULT_MODULE_ID: (TextSpace(100), TextSpace(100))}
    group = config.build_learner_group(
        rl_module_spec=config.get_multi_rl_module_spec(spaces=spaces)
    )
    try:
        pieces: list[Any] = ask_learners(group, put_pieces)[0]
        # Before the Learners end: what they have put is gone with them.
        sent = {name: tensor.clone().numpy() for name, tensor in fetched(pieces)}
    finally:
        group.shutdown()

    written = load_file(mixture / "model.safetensors")
    assert sent.keys() == written.keys()
    assert "model.layers.1.mlp.experts.3.down_proj.weight" in sent
    for name, tensor in written.items():
        np.testing.assert_array_equal(sent[name], tensor.float().numpy())
