"""Rows of several responses, computed block by block, are those of a dense mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from rllib_dapo.core import attention_mask
from rllib_dapo.learner.row_masks import block_mask, shared_row_inputs, takes_blocks
from rllib_dapo.models.block_attention import register_block_attention, row_blocks

# A prompt of 3 with responses of 2, 3 and 1; a prompt of 2 with 3 and 1, and padding; one response.
SEGMENTS = torch.tensor(
    [[0, 0, 0, 1, 1, 2, 2, 2, 3], [0, 0, 1, 1, 1, 2, -1, -1, -1], [0, 1, 1, 1, 1, 1, 1, 1, 1]]
)
POSITIONS = torch.tensor(
    [[0, 1, 2, 3, 4, 3, 4, 5, 3], [0, 1, 2, 3, 4, 2, 0, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8]]
)


@pytest.fixture
def model() -> LlamaForCausalLM:
    """A Llama with fewer heads of keys than of queries."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).double()


def outputs(model: LlamaForCausalLM, kernel: str) -> tuple[Tensor, Tensor]:
    """Hidden states of all tokens but padding, and a gradient."""
    model.set_attn_implementation(kernel)
    model.zero_grad()
    ids = torch.arange(SEGMENTS.numel()).view(SEGMENTS.shape)
    inputs = shared_row_inputs(model.config, SEGMENTS, POSITIONS)
    hidden = model.model(input_ids=ids, use_cache=False, **inputs).last_hidden_state[SEGMENTS >= 0]
    (hidden * torch.linspace(-1, 1, hidden.numel()).view_as(hidden)).sum().backward()
    return hidden.detach(), torch.cat([p.grad.flatten() for p in model.model.parameters()])


@pytest.mark.parametrize("recomputes", [False, True])
def test_hidden_states_and_gradients_are_those_of_a_dense_mask(
    model: LlamaForCausalLM, recomputes: bool
) -> None:
    register_block_attention()
    expected = outputs(model, "sdpa")
    if recomputes:
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    for found, dense in zip(outputs(model, "sdpa_blocks"), expected, strict=True):
        torch.testing.assert_close(found, dense, rtol=1e-6, atol=1e-6)


def test_no_mask_of_whole_rows_is_made(model: LlamaForCausalLM) -> None:
    register_block_attention()
    model.set_attn_implementation("sdpa_blocks")
    inputs = shared_row_inputs(model.config, SEGMENTS, POSITIONS)
    assert inputs["attention_mask"].numel() == 1
    assert inputs["row_blocks"].sees.shape == (6, 1, 8, 3 + 8)


def test_blocks_by_hand() -> None:
    blocks = row_blocks(SEGMENTS[1:2])
    assert blocks.prompt_tokens == 2
    assert blocks.row_of.tolist() == [0, 0]
    assert blocks.places.tolist() == [[2, 3, 4], [5, 0, 0]]
    assert blocks.is_token.tolist() == [[True, True, True], [True, False, False]]
    assert blocks.sees[0, 0].int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize("window", [None, 3])
def test_flex_attentions_mask_is_the_dense_one(window: int | None) -> None:
    dense = attention_mask(SEGMENTS, position_ids=POSITIONS, window=window)
    blocks: Any = block_mask(SEGMENTS, position_ids=POSITIONS, window=window)
    where = torch.meshgrid(*(torch.arange(n) for n in (3, 1, 9, 9)), indexing="ij")
    assert torch.equal(blocks.mask_mod(*where), dense)
    # All of these tokens lie in one block of 128, which is computed.
    assert blocks.to_dense().tolist() == [[[[1]]]] * 3


def test_blocks_of_flex_attention_that_nobody_sees_are_left_out() -> None:
    """A prompt of 128 with two responses of 128: the second does not see the first."""
    segments = torch.arange(3).repeat_interleave(128)[None]
    positions = torch.cat([torch.arange(256), torch.arange(128, 256)])[None]
    blocks: Any = block_mask(segments, position_ids=positions, window=None)
    assert blocks.to_dense()[0, 0].tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]


def test_windows_want_a_mask_under_sdpa_and_none_under_flex_attention(
    model: LlamaForCausalLM,
) -> None:
    register_block_attention()
    model.set_attn_implementation("sdpa_blocks")
    assert takes_blocks(model.config)
    model.config.sliding_window = 4
    assert not takes_blocks(model.config)
    assert shared_row_inputs(model.config, SEGMENTS, POSITIONS)["attention_mask"].shape[-1] == 9
    model.config._attn_implementation_internal = "flex_attention"
    assert takes_blocks(model.config)
