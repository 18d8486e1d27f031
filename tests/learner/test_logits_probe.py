"""What a model makes of its logits is found by running its own code, whatever it is called."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    Gemma4Config,
    GraniteConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    RecurrentGemmaConfig,
)

from rllib_dapo.core import IDENTITY, LogitAdjustment
from rllib_dapo.learner.logits_probe import PROBES, find_logit_adjustment, fit_adjustment

SMALL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pad_token_id": 0,
}
LLAMA_LIKE = SMALL | {"intermediate_size": 32, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(**LLAMA_LIKE), IDENTITY),
        (OPTConfig(**SMALL, ffn_dim=32, word_embed_proj_dim=32), IDENTITY),
        (CohereConfig(**LLAMA_LIKE, logit_scale=0.0625), LogitAdjustment(scale=0.0625)),
        (GraniteConfig(**LLAMA_LIKE, logits_scaling=3.0), LogitAdjustment(scale=1 / 3)),
        (
            Gemma2Config(**LLAMA_LIKE, head_dim=16, final_logit_softcapping=30.0),
            LogitAdjustment(cap=30.0),
        ),
        (
            RecurrentGemmaConfig(
                **LLAMA_LIKE | {"num_hidden_layers": 3}, lru_width=32, logits_soft_cap=5.0
            ),
            LogitAdjustment(cap=5.0),
        ),
        (
            Gemma4Config(
                text_config=LLAMA_LIKE
                | {
                    "head_dim": 16,
                    "global_head_dim": 16,
                    "num_key_value_heads": 1,
                    "vocab_size_per_layer_input": 64,
                    "hidden_size_per_layer_input": 8,
                    "final_logit_softcapping": 3.0,  # in a configuration inside another
                }
            ),
            LogitAdjustment(cap=3.0),
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, PretrainedConfig) else "",
)
def test_scales_and_caps_are_found_by_their_effect(
    config: PretrainedConfig, expected: LogitAdjustment
) -> None:
    model = AutoModelForCausalLM.from_config(config).eval()
    assert find_logit_adjustment(model) == expected


class _Squaring(torch.nn.Module):
    """Neither a scale nor a cap."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name) if name == "model" else getattr(self.model, name)

    def forward(self, **inputs: Any) -> Any:
        output = self.model(**inputs)
        output.logits = output.logits.square()
        return output


def test_what_is_neither_is_not_guessed() -> None:
    model = _Squaring(AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA_LIKE)))
    assert find_logit_adjustment(model) is None


def test_a_model_that_projects_something_else_than_its_last_hidden_states_is_not_guessed() -> None:
    model = AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA_LIKE))
    model.lm_head.register_forward_pre_hook(lambda module, args: (args[0] * 2.0,))
    assert find_logit_adjustment(model) is None


def test_a_fit_holds_for_every_number_or_there_is_none() -> None:
    given = torch.tensor(PROBES, dtype=torch.float64)
    assert fit_adjustment(given, 7.0 * torch.tanh(given / 14.0)) == LogitAdjustment(
        scale=0.5, cap=7.0
    )
    assert fit_adjustment(given, given + 1.0) is None
    assert fit_adjustment(given, given.clamp(-5.0, 5.0)) is None
    assert fit_adjustment(given[:4], given[:4]) is None  # too few numbers to tell
