"""What rows cost, counted in the model."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from rllib_dapo.learner.model_work import ATTENTION_FACTOR, work_of

SIZES = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize("ties", [False, True])
def test_coefficients_by_hand(ties: bool) -> None:
    """A layer has 32 * (32 + 2 * 16 + 32) weights of attention and 3 * 32 * 64 behind it."""
    work = work_of(LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=ties)))
    active = 2 * (32 * 96 + 3 * 32 * 64 + 2 * 32) + 32  # and the norms
    assert work.per_pair == pytest.approx(ATTENTION_FACTOR * 4 * 2 * 32 / (2 * active))
    assert work.per_response == pytest.approx(8 / 6 * 100 * 32 / active)
    assert not work.takes_blocks


def test_of_experts_the_chosen_ones_count() -> None:
    sizes = SIZES | {"head_dim": 8, "moe_intermediate_size": 16, "num_experts_per_tok": 2}
    with torch.device("meta"):
        few, many = (
            work_of(Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, num_experts=count)))
            for count in (4, 8)
        )
    # Twice the experts are twice the rows of the router, and no more.
    assert many.per_pair == pytest.approx(few.per_pair, rel=0.05)
