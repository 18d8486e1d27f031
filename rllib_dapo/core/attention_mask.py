"""Which tokens of a row see which, where several responses share the row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rllib_dapo.core.collate import PADDING, PROMPT

if TYPE_CHECKING:
    from jaxtyping import Bool, Int


def attention_mask(
    segment_ids: Int[Tensor, "R S"],
    *,
    position_ids: Int[Tensor, "R S"] | None = None,
    window: int | None = None,
) -> Bool[Tensor, "R 1 S S"]:
    """`M_qk = (k <= q and p_q - p_k < w and (s_k = s_q or s_k = prompt)) or k = q`.

    A token sees the past of its own segment, and the prompt, as far as the window reaches. Padding
    sees itself alone, so that its softmax stays finite.

    Args:
        segment_ids: `[R, S]` segment `s` of each token, see `collate`.
        position_ids: `[R, S]` position `p` of each token in its own sequence, which a window needs:
            in a row that several responses share, distances are not those of the row.
        window: Number of tokens `w` that a sliding window covers, the query's own included; None
            where attention reaches back to the beginning.

    Returns:
        `[R, 1, S, S]` True where query (third axis) attends to key (fourth axis).

    Raises:
        ValueError: If there is a window, and no positions.

    Source: causal attention over each prompt with one of its responses; windows are those of
    Mistral 7B (arXiv 2310.06825, Section 2).
    """
    size = segment_ids.shape[-1]
    query, key = segment_ids[:, :, None], segment_ids[:, None, :]
    reach = torch.ones(size, size, dtype=torch.bool, device=segment_ids.device).tril()[None]
    if window is not None:
        if position_ids is None:
            raise ValueError(f"window={window} needs position_ids")
        reach = reach & (position_ids[:, :, None] - position_ids[:, None, :] < window)

    visible = ((key == query) | (key == PROMPT)) & (query != PADDING)
    itself = torch.eye(size, dtype=torch.bool, device=segment_ids.device)
    return ((reach & visible) | itself)[:, None]
