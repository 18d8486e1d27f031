"""`language_model.attn_implementation: auto` takes what computes the model."""

from __future__ import annotations

import pytest
from transformers import (
    BloomConfig,
    Gemma2Config,
    GPTJConfig,
    GptOssConfig,
    LlamaConfig,
    MambaConfig,
    PretrainedConfig,
)

from rllib_dapo.models.attention import choose_attention


class _CappedConfig(LlamaConfig):
    """A model of somebody else's, whose text part caps scores under another name."""

    def to_dict(self) -> dict:
        return super().to_dict() | {"text_config": {"attention_logit_cap": 30.0}, 7: "a number"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LlamaConfig(), "sdpa"),
        (Gemma2Config(attn_logit_softcapping=None), "sdpa"),
        (Gemma2Config(attn_logit_softcapping=50.0), "eager"),
        (GptOssConfig(), "eager"),
        (BloomConfig(), "eager"),
        (GPTJConfig(), "eager"),
        (MambaConfig(), "eager"),
        (_CappedConfig(), "eager"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, PretrainedConfig) else "",
)
def test_the_fastest_attention_that_is_right(config: PretrainedConfig, expected: str) -> None:
    assert choose_attention(config) == expected
