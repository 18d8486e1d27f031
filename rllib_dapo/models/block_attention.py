"""Attention of rows that several responses share, block by block: no mask of whole rows is built.

A prompt attends to itself, and each response to its prompt and to itself. So attention is computed
once over prompts, which is plain causal, and once over responses, each with the keys of its prompt
in front. Both go through PyTorch's `scaled_dot_product_attention`. Pairs that nobody sees are left
out: of a prompt of 256 tokens with 8 responses of 64, two thirds of the row's. Two parts are those
of Prefix Grouper (arXiv 2506.05433).

It is one of transformers' attention implementations (`sdpa_blocks`); what a row holds comes to it
by a keyword, `row_blocks`, which models pass on to whatever computes their attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from rllib_dapo.models.attention import BLOCKS


@dataclass(frozen=True, kw_only=True, slots=True)
class RowBlocks:
    """Where prompts and responses lie in `R` rows of `S` tokens that hold `B` responses.

    Attributes:
        prompt_tokens: Longest prompt `P`, in tokens.
        row_of: `[B]` row of each response.
        places: `[B, T]` flat index into `[R * S]` of each token; 0 where there is none.
        is_token: `[B, T]` whether there is one.
        sees: `[B, 1, T, P + T]` which keys each token of a response sees: its prompt's, and its own
            up to itself.
    """

    prompt_tokens: int
    row_of: Tensor
    places: Tensor
    is_token: Tensor
    sees: Tensor


def row_blocks(segment_ids: Tensor) -> RowBlocks:
    """The blocks of rows.

    Args:
        segment_ids: `[R, S]` segment of each token, see `core.collate`.
    """
    size, device = segment_ids.shape[1], segment_ids.device
    prompts = (segment_ids == 0).sum(1)

    # Every response, by row and number, is a run of tokens behind the prompt.
    number = torch.arange(1, int(segment_ids.max()) + 1, device=device)
    lengths = (segment_ids[:, :, None] == number).sum(1)
    row_of, segment = (lengths > 0).nonzero(as_tuple=True)
    length = lengths[row_of, segment]
    begins = prompts[row_of] + (lengths.cumsum(1) - lengths)[row_of, segment]

    step = torch.arange(int(length.max()), device=device)
    is_token = step < length[:, None]
    places = torch.where(is_token, row_of[:, None] * size + begins[:, None] + step, 0)

    longest = int(prompts.max())
    of_prompt = torch.arange(longest, device=device) < prompts[row_of, None]
    of_itself = step[:, None] >= step
    shape = (len(row_of), 1, len(step))
    sees = torch.cat(
        (
            of_prompt[:, None, None].expand(*shape, longest),
            of_itself[None, None].expand(*shape, len(step)),
        ),
        dim=-1,
    )
    return RowBlocks(
        prompt_tokens=longest, row_of=row_of, places=places, is_token=is_token, sees=sees
    )


def block_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    row_blocks: RowBlocks | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """One of transformers' attention functions: `[R, h, S, d]` to `[R, S, h, d]`.

    Args:
        module: The attention layer.
        query: Queries `[R, h, S, d]`.
        key: Keys `[R, k, S, d]`, perhaps of fewer heads.
        value: Values of the same shape.
        attention_mask: A mask where there are no blocks; see transformers' `sdpa`.
        row_blocks: What the rows hold. Without it this is `sdpa`.
        **kwargs: Transformers'.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if row_blocks is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    blocks, (rows, _, size, _) = row_blocks, query.shape

    first = blocks.prompt_tokens
    prompts = [tensor[:, :, :first] for tensor in (query, key, value)]
    of_prompts, _ = sdpa_attention_forward(module, *prompts, None, **kwargs)

    def of_responses(tensor: Tensor) -> Tensor:
        flat = tensor.transpose(1, 2).flatten(0, 1)  # [R S, h, d]
        return flat[blocks.places].transpose(1, 2)  # [B, h, T, d]

    def behind_prompts(tensor: Tensor) -> Tensor:
        return torch.cat((tensor[blocks.row_of, :, :first], of_responses(tensor)), dim=2)

    answers, _ = sdpa_attention_forward(
        module,
        of_responses(query),
        behind_prompts(key),
        behind_prompts(value),
        blocks.sees,
        **kwargs,
    )
    output = pad(of_prompts, (0, 0, 0, 0, 0, size - first)).flatten(0, 1)
    output = output.index_copy(0, blocks.places[blocks.is_token], answers[blocks.is_token])
    return output.unflatten(0, (rows, size)), None


def register_block_attention() -> None:
    """Makes `sdpa_blocks` known to transformers, under which a model can be loaded then."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(BLOCKS, block_attention)
    # Rows of one response have no mask of ours: they are computed, and masked, as by `sdpa`.
    AttentionMaskInterface.register(BLOCKS, sdpa_mask)
