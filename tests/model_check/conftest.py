"""Folders of small random models, into which faults are planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_dapo import DAPOConfig
from rllib_dapo.envs import TextSpace
from rllib_dapo.learner.module import CausalLMModule
from rllib_dapo.models.tiny import make_tokenizer

SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


@pytest.fixture(autouse=True)
def _tiny_tensors(one_thread: None) -> None:
    """All tests of this folder compute with tiny tensors."""


@pytest.fixture
def model_folder(tmp_path: Path) -> Callable[..., Path]:
    """Saves a random model of a kind, with settings on top of `SIZES`."""

    def save(kind: str = "Llama", **settings: Any) -> Path:
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**SIZES | settings)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.1)
        model.save_pretrained(tmp_path / "model")
        make_tokenizer().save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return save


@pytest.fixture
def module_of() -> Callable[..., CausalLMModule]:
    """Builds a Learner's module of a model folder, in float32."""

    def build(folder: Path, **settings: Any) -> CausalLMModule:
        config = DAPOConfig().language_model(str(folder), dtype="float32", **settings)
        spaces = {DEFAULT_MODULE_ID: (TextSpace(1), TextSpace(1))}
        spec = config.get_multi_rl_module_spec(spaces=spaces, inference_only=False)
        return spec.build()[DEFAULT_MODULE_ID]

    return build
