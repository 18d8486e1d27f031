"""From planned rows to padded tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rllib_dapo.core.batching import MicroBatchPlan
from rllib_dapo.core.rows import row_tokens
from rllib_dapo.core.types import GroupTokens, PromptGroup

PADDING, PROMPT = -1, 0


def collate(
    plan: MicroBatchPlan, groups: Mapping[int, PromptGroup | GroupTokens], *, pad_token_id: int
) -> dict[str, Tensor]:
    """`input_ids = [prompt, o_1, o_2, ..., padding]` per row, and where each token is predicted.

    The tensors of one micro-batch: `R` rows of `S` tokens that hold `B` responses of up to `T`
    tokens. An empty plan gives one row of one padding token and no response, so that a Learner
    without work can run the model forward and backward in step with the others.

    Args:
        plan: Which responses go together, and in which rows.
        groups: Groups, or of each at least the tokens of the planned responses, by
            `TrainResponse.group`.
        pad_token_id: Id of the padding, any valid one, as padding has neither attention nor loss.

    Returns:
        - `input_ids` `[R, S]` int32;
        - `position_ids`, `segment_ids` `[R, S]` int32, only where a row is shared: positions of
            every response of a row continue those of the prompt; segments are 0 for the prompt, k
            for the k-th response of the row, -1 for padding;
        - `predictor` `[B, T]` int32: flat index into `[R * S]` of the position whose output
            predicts the token;
        - `response_ids` `[B, T]` int32, `mask` `[B, T]` bool, `sampler_logprobs` `[B, T]` float32,
            in nats;
        - `advantages`, `rewards`, `weights` `[B]` float64.

    Source: definition of a row, at the top of `core.rows`.
    """
    height, width = max(1, len(plan.rows)), max(map(row_tokens, plan.rows), default=1)
    is_shared = any(len(row) > 1 for row in plan.rows)
    batch = collate_responses(plan, groups, pad_token_id=pad_token_id)
    batch["input_ids"] = torch.full((height, width), pad_token_id, dtype=torch.int32)
    batch["predictor"] = torch.zeros_like(batch["response_ids"])
    if is_shared:
        batch["position_ids"] = torch.zeros((height, width), dtype=torch.int32)
        batch["segment_ids"] = torch.full((height, width), PADDING, dtype=torch.int32)

    b = 0
    for r, row in enumerate(plan.rows):
        start = prompt = row[0].prompt_tokens
        batch["input_ids"][r, :prompt] = _tensor(groups[row[0].group].prompt_ids)
        if is_shared:
            batch["position_ids"][r, :prompt] = torch.arange(prompt)
            batch["segment_ids"][r, :prompt] = PROMPT

        for segment, planned in enumerate(row, start=1):
            n = planned.response_tokens
            batch["input_ids"][r, start : start + n] = batch["response_ids"][b, :n]
            if is_shared:
                batch["position_ids"][r, start : start + n] = torch.arange(prompt, prompt + n)
                batch["segment_ids"][r, start : start + n] = segment

            # The last token of the prompt predicts the first token of every response; after that
            # each token predicts its successor.
            batch["predictor"][b, 0] = r * width + prompt - 1
            batch["predictor"][b, 1:n] = r * width + torch.arange(start, start + n - 1)
            start, b = start + n, b + 1

    return batch


def collate_responses(
    plan: MicroBatchPlan, groups: Mapping[int, PromptGroup | GroupTokens], *, pad_token_id: int
) -> dict[str, Tensor]:
    """`response_ids[b] = [o_b, padding]`: what `collate` gives of the responses, without the rows.

    Args:
        plan: Which responses go together.
        groups: As in `collate`.
        pad_token_id: Id of the padding.

    Returns:
        `response_ids`, `mask`, `sampler_logprobs` `[B, T]`, `advantages`, `rewards`, `weights`
        `[B]`; see `collate`.

    Source: definition of a micro-batch, at the top of `core.batching`.
    """
    responses = plan.responses
    longest = max((r.response_tokens for r in responses), default=0)
    shape = (len(responses), longest)
    batch = {
        "response_ids": torch.full(shape, pad_token_id, dtype=torch.int32),
        "mask": torch.zeros(shape, dtype=torch.bool),
        "sampler_logprobs": torch.zeros(shape),
        "advantages": torch.tensor([r.advantage for r in responses], dtype=torch.float64),
        "rewards": torch.tensor([r.reward for r in responses], dtype=torch.float64),
        "weights": torch.tensor(plan.weights, dtype=torch.float64),
    }

    for b, planned in enumerate(responses):
        response, n = groups[planned.group].responses[planned.index], planned.response_tokens
        batch["response_ids"][b, :n] = _tensor(response.token_ids)
        batch["mask"][b, :n] = _tensor(response.loss_mask)
        batch["sampler_logprobs"][b, :n] = _tensor(response.logprobs)
    return batch


def _tensor(array: object) -> Tensor:
    # `torch.tensor` copies: arrays from Ray's object store are read-only, which torch's views do
    # not know.
    return torch.tensor(array)
