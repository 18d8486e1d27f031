"""What is done to weights that DeepSpeed has sharded before its engine is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from transformers import Gemma2Config, GraniteConfig, PretrainedConfig

from rllib_dapo import DAPOConfig
from rllib_dapo.core import LogitAdjustment
from rllib_dapo.envs import TextSpace
from rllib_dapo.learner.module import CausalLMModule

pytestmark = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
}


@contextmanager
def sharded_module(config: DAPOConfig, dtype: str) -> Iterator[CausalLMModule]:
    """The module of a Learner under ZeRO-3, in this process."""
    config.language_model(dtype=dtype).deepspeed({"zero_optimization": {"stage": 3}})
    spec = config.get_multi_rl_module_spec(
        spaces={DEFAULT_MODULE_ID: (TextSpace(100), TextSpace(100))}
    )
    learner = config.learner_class(config=config, module_spec=spec)
    learner.build()
    try:
        yield learner.policy_module
    finally:
        learner.shutdown()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            Gemma2Config(**SIZES, final_logit_softcapping=7.0),
            LogitAdjustment(scale=1.0, cap=7.0),
        ),
        (GraniteConfig(**SIZES, logits_scaling=3.0), LogitAdjustment(scale=1 / 3)),
    ],
    ids=["cap", "scale"],
)
def test_what_a_model_makes_of_its_logits_is_found_out_exactly_in_shards(
    learner_config: Callable[..., DAPOConfig],
    random_model: Callable[[PretrainedConfig, Path], Path],
    tmp_path: Path,
    model: PretrainedConfig,
    expected: LogitAdjustment,
    dtype: str,
) -> None:
    config = learner_config(random_model(model, tmp_path / "model"))
    with sharded_module(config, dtype) as module:
        assert module.settings.adjustment == expected
        # And the shards are of the type that is trained.
        assert {p.dtype for p in module.lm.parameters()} == {getattr(torch, dtype)}
        assert {p.ds_tensor.dtype for p in module.lm.parameters()} == {getattr(torch, dtype)}


def test_a_module_of_shards_neither_gives_nor_takes_a_whole_state(
    learner_config: Callable[..., DAPOConfig], tmp_path: Path
) -> None:
    with sharded_module(learner_config(), "float32") as module:
        assert module.is_sharded
        with pytest.raises(RuntimeError, match="one Learner alone does not hold the weights"):
            module.get_state()
        module.save_to_path(tmp_path)
        assert not list(tmp_path.glob("*.safetensors"))
