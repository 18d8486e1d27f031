"""From responses to mini-batches, micro-batches and padded tensors.

A mini-batch is what one optimizer step sees. It is cut into micro-batches of bounded size in
tokens, so that memory is bounded and no processor waits on a long row. A *row* is one sequence of
the forward pass: a prompt followed by one or more of its responses. Responses that share a row
share the prompt's computation; a mask keeps them from seeing each other, so the numbers are those
of separate rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from rllib_dapo.core.normalizer import LossAggregation, response_weights
from rllib_dapo.core.types import PromptGroup

PADDING, PROMPT = -1, 0
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResponse:
    """A response that is to be trained on: where its tokens lie, its sizes, its advantage.

    Attributes:
        group: Index of its `PromptGroup` in the training data.
        index: Its place in the group.
        prompt_tokens: Length of the prompt, in tokens.
        response_tokens: Length of the response, in tokens.
        loss_tokens: How many of them have loss.
        advantage: The same for all its tokens.
        reward: Its shaped reward.
    """

    group: int
    index: int
    prompt_tokens: int
    response_tokens: int
    loss_tokens: int
    advantage: float
    reward: float


Row = tuple[TrainResponse, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatchPlan:
    """Which responses go through the model together, and the weight of each response's tokens in the loss."""

    rows: tuple[Row, ...]
    weights: tuple[float, ...]

    @property
    def responses(self) -> list[TrainResponse]:
        """All responses, row by row: the order of every `[B, ...]` tensor of the micro-batch."""
        return [response for row in self.rows for response in row]


MiniBatchPlan = tuple[MicroBatchPlan, ...]


def split_evenly(items: Sequence[Item], parts: int) -> list[list[Item]]:
    """Cuts a sequence into `parts` consecutive runs whose lengths differ by at most one."""
    bounds = [len(items) * i // parts for i in range(parts + 1)]
    return [list(items[a:b]) for a, b in pairwise(bounds)]


def row_tokens(row: Row) -> int:
    """Length of a row: one prompt and all its responses."""
    return row[0].prompt_tokens + sum(response.response_tokens for response in row)


def pack_rows(responses: Sequence[TrainResponse], *, max_row_tokens: int) -> list[Row]:
    """Puts responses to the same prompt into shared rows of at most `max_row_tokens` tokens.

    Args:
        responses: Responses of one mini-batch, those of a group next to each other.
        max_row_tokens: Bound on a shared row, in tokens; 0 gives every response a row of its own.
    """
    rows: list[list[TrainResponse]] = []
    for response in responses:
        fits = (
            bool(rows)
            and rows[-1][0].group == response.group
            and row_tokens(tuple(rows[-1])) + response.response_tokens <= max_row_tokens
        )
        if fits:
            rows[-1].append(response)
        else:
            rows.append([response])
    return [tuple(row) for row in rows]


def _cut(lengths: Sequence[int], max_tokens: int) -> list[int]:
    """Ends of the runs of `lengths` (descending) whose padded size, count times longest, fits `max_tokens`."""
    ends, start = [], 0
    for i in range(1, len(lengths) + 1):
        if i == len(lengths) or lengths[start] * (i + 1 - start) > max_tokens:
            ends.append(i)
            start = i
    return ends


def balance_rows(rows: Sequence[Row], *, max_tokens: int, multiple_of: int = 1) -> list[list[Row]]:
    """Cuts rows into the fewest micro-batches that fit `max_tokens`, then evens out their padded sizes.

    Rows of like length go together, so that little is padded.

    Args:
        rows: The rows of one mini-batch.
        max_tokens: Bound on a micro-batch's padded size (rows times longest row); a longer single
            row goes alone.
        multiple_of: Round the number of micro-batches up to a multiple of this (the number of
            Learners, so that each runs equally many); the added ones may be empty.
    """
    ordered = sorted(rows, key=row_tokens, reverse=True)
    lengths = [row_tokens(row) for row in ordered]
    count = -(-len(_cut(lengths, max_tokens)) // multiple_of) * multiple_of
    low, high = 0, max_tokens
    while low < high:  # the smallest bound that still needs no more than `count` micro-batches
        middle = (low + high) // 2
        low, high = (low, middle) if len(_cut(lengths, middle)) <= count else (middle + 1, high)
    ends = _cut(lengths, high)
    parts = [ordered[a:b] for a, b in pairwise([0, *ends])]
    return parts + [[] for _ in range(count - len(parts))]


def plan_minibatch(
    responses: Sequence[TrainResponse],
    *,
    loss_aggregation: LossAggregation,
    max_response_tokens: int,
    max_tokens_per_microbatch: int,
    max_row_tokens: int = 0,
    num_shards: int = 1,
) -> list[MiniBatchPlan]:
    """Plans one optimizer step: for each Learner (shard), the micro-batches it runs.

    The weights make the *sum* of the shards' losses the mini-batch's loss.

    Args:
        responses: The mini-batch, those of a group next to each other.
        loss_aggregation: See `core.normalizer`.
        max_response_tokens: The constant of `sequence_sum_norm`.
        max_tokens_per_microbatch: Bound on a micro-batch's padded size, in tokens.
        max_row_tokens: Bound on rows shared by responses of one prompt; 0 to share none.
        num_shards: The number of Learners.

    Returns:
        `num_shards` plans with equally many micro-batches each.
    """
    rows = pack_rows(responses, max_row_tokens=max_row_tokens)
    parts = balance_rows(rows, max_tokens=max_tokens_per_microbatch, multiple_of=num_shards)

    def weights(of: Sequence[TrainResponse]) -> list[float]:
        return response_weights(
            [r.loss_tokens for r in of],
            [r.group for r in of],
            loss_aggregation=loss_aggregation,
            max_response_tokens=max_response_tokens,
        )

    weight_of = dict(zip(((r.group, r.index) for r in responses), weights(responses), strict=True))
    plans = []
    for part in parts:
        inside = [response for row in part for response in row]
        if loss_aggregation == "microbatch_token_mean":
            micro_weights = [w * len(inside) / len(responses) for w in weights(inside)]
        else:
            micro_weights = [weight_of[r.group, r.index] for r in inside]
        plans.append(MicroBatchPlan(rows=tuple(part), weights=tuple(micro_weights)))
    return [tuple(plans[shard::num_shards]) for shard in range(num_shards)]


def collate(
    plan: MicroBatchPlan, groups: Mapping[int, PromptGroup], *, pad_token_id: int
) -> dict[str, Tensor]:
    """Builds the tensors of one micro-batch: `R` rows of `S` tokens holding `B` responses of up to `T` tokens.

    An empty plan gives one row of one padding token and no response, so that a Learner without work
    can run the model forward and backward in step with the others.

    Args:
        plan: What belongs together.
        groups: The token arrays, by `TrainResponse.group`.
        pad_token_id: Any valid id; padding has neither attention nor loss.

    Returns:
        - `input_ids`, `position_ids` `[R, S]`: positions go on from the prompt for every response
            of a row;
        - `segment_ids` `[R, S]`: 0 prompt, k the k-th response of the row, -1 padding;
        - `predictor` `[B, T]`: flat index into `[R * S]` of the position whose output predicts the
            token;
        - `response_ids` `[B, T]`, `mask` `[B, T]` bool, `sampler_logprobs` `[B, T]` float32;
        - `advantages`, `rewards`, `weights` `[B]` float64.
    """
    responses = plan.responses
    height, width = max(1, len(plan.rows)), max(map(row_tokens, plan.rows), default=1)
    longest = max((r.response_tokens for r in responses), default=0)
    batch = {
        "input_ids": torch.full((height, width), pad_token_id),
        "position_ids": torch.zeros((height, width), dtype=torch.long),
        "segment_ids": torch.full((height, width), PADDING),
        "predictor": torch.zeros((len(responses), longest), dtype=torch.long),
        "response_ids": torch.full((len(responses), longest), pad_token_id),
        "mask": torch.zeros((len(responses), longest), dtype=torch.bool),
        "sampler_logprobs": torch.zeros((len(responses), longest)),
        "advantages": torch.tensor([r.advantage for r in responses], dtype=torch.float64),
        "rewards": torch.tensor([r.reward for r in responses], dtype=torch.float64),
        "weights": torch.tensor(plan.weights, dtype=torch.float64),
    }
    # `torch.tensor` copies: arrays from Ray's object store are read-only, which torch's views do
    # not know of.
    b = 0
    for r, row in enumerate(plan.rows):
        start = prompt = row[0].prompt_tokens
        batch["input_ids"][r, :prompt] = torch.tensor(groups[row[0].group].prompt_ids)
        batch["position_ids"][r, :prompt] = torch.arange(prompt)
        batch["segment_ids"][r, :prompt] = PROMPT
        for segment, planned in enumerate(row, start=1):
            response, n = groups[planned.group].responses[planned.index], planned.response_tokens
            ids = torch.tensor(response.token_ids)
            batch["input_ids"][r, start : start + n] = ids
            batch["position_ids"][r, start : start + n] = torch.arange(prompt, prompt + n)
            batch["segment_ids"][r, start : start + n] = segment
            # The prompt's last token predicts the first token of every response; then each token
            # its successor.
            batch["predictor"][b, 0] = r * width + prompt - 1
            batch["predictor"][b, 1:n] = r * width + torch.arange(start, start + n - 1)
            batch["response_ids"][b, :n] = ids
            batch["mask"][b, :n] = torch.tensor(response.loss_mask)
            batch["sampler_logprobs"][b, :n] = torch.tensor(response.logprobs)
            start, b = start + n, b + 1
    return batch


def attention_mask(segment_ids: Tensor) -> Tensor:
    """Who sees whom: the past of the own segment, and the prompt.

    Args:
        segment_ids: `[R, S]`, see `collate`.

    Returns:
        `[R, 1, S, S]` bool, True where query (third axis) attends to key (fourth). Padding sees
        itself alone, so that its softmax stays finite.
    """
    size = segment_ids.shape[-1]
    query, key = segment_ids[:, :, None], segment_ids[:, None, :]
    causal = torch.ones(size, size, dtype=torch.bool, device=segment_ids.device).tril()
    own = (key == query) & (query != PADDING)
    itself = torch.eye(size, dtype=torch.bool, device=segment_ids.device)
    return ((causal & (own | ((key == PROMPT) & (query != PADDING)))) | itself)[:, None]
