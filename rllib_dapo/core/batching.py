"""From responses to mini-batches, micro-batches and padded tensors.

A mini-batch is what one optimizer step sees. It is cut into micro-batches of bounded size in
tokens, so that memory is bounded and no processor waits on a long row. A *row* is one sequence of
the forward pass: a prompt followed by one or more of its responses. Responses that share a row
share the computation of the prompt, and the step is several times shorter where prompts are long. A
mask keeps them from seeing each other, so the numbers are those of separate rows where attention is
plain causal; with sliding windows, attention sinks or soft caps they are not. Sharing is off by
default, because the mask rules out the fastest attention kernels, which matter for long responses.

Lengths are known before any token moves, so the driver plans all of this from summaries: the plan
does not depend on the number of Learners, and no collective is needed to agree on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from rllib_dapo.core.normalizer import LossAggregation, response_weights
from rllib_dapo.core.types import GroupTokens, PromptGroup

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

PADDING, PROMPT = -1, 0
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResponse:
    """A response to train on: where its tokens are, its lengths, its advantage.

    Attributes:
        group: Index of its `PromptGroup` in the training data.
        index: Its place in the group.
        prompt_tokens: Length of the prompt, in tokens.
        response_tokens: Length of the response, in tokens.
        loss_tokens: Number of tokens of the response that have loss.
        advantage: Advantage of the response, the same for all its tokens.
        reward: Shaped reward of the response.
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
    """Which responses go through the model together.

    Attributes:
        rows: The rows of the micro-batch, each with the responses that share it.
        weights: Weight of each token of a response in the loss, in the order of `responses`.
    """

    rows: tuple[Row, ...]
    weights: tuple[float, ...]

    @property
    def responses(self) -> list[TrainResponse]:
        """All responses, row by row, which is the order in every `[B, ...]` tensor."""
        return [response for row in self.rows for response in row]


MiniBatchPlan = tuple[MicroBatchPlan, ...]


def split_evenly(items: Sequence[Item], parts: int) -> list[list[Item]]:
    """`items[n k / parts : n (k + 1) / parts]` for each `k`: runs as equally long as can be.

    Args:
        items: Sequence of `n` items.
        parts: Number of consecutive runs to cut it into, at least 1.

    Source: "Choices" in docs/algorithm.md, "A mini-batch is a run of responses".
    """
    bounds = [len(items) * i // parts for i in range(parts + 1)]
    return [list(items[a:b]) for a, b in pairwise(bounds)]


def row_tokens(row: Row) -> int:
    """`P + Σ_i T_i`: length of a row in tokens, the prompt and all its responses.

    Args:
        row: Responses to one prompt.

    Source: definition of a row, at the top of this module.
    """
    return row[0].prompt_tokens + sum(response.response_tokens for response in row)


def pack_rows(responses: Sequence[TrainResponse], *, max_row_tokens: int) -> list[Row]:
    """`P + Σ_i T_i <= max_row_tokens` for every shared row: puts responses to one prompt together.

    Args:
        responses: Responses of one mini-batch, those of a group next to each other.
        max_row_tokens: Bound on a shared row, in tokens; 0 gives every response a row of its own.

    Source: first-fit packing in the order given.
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
    """Ends of the longest runs of descending `lengths` with `count * longest <= max_tokens`."""
    ends, start = [], 0
    for i in range(1, len(lengths) + 1):
        if i == len(lengths) or lengths[start] * (i + 1 - start) > max_tokens:
            ends.append(i)
            start = i
    return ends


def balance_rows(rows: Sequence[Row], *, max_tokens: int, multiple_of: int = 1) -> list[list[Row]]:
    """`rows * longest row <= max_tokens` for every micro-batch.

    As few micro-batches as fit, of sizes as even as can be. Rows of similar length go together, so
    that little is padded.

    Args:
        rows: Rows of one mini-batch.
        max_tokens: Bound on the padded size of a micro-batch, in tokens; a single row that is
            longer goes alone.
        multiple_of: The number of micro-batches is rounded up to a multiple of this, the number of
            Learners, so that each runs equally many; the added ones may be empty.

    Source: binary search for the smallest bound that needs no more micro-batches.
    """
    ordered = sorted(rows, key=row_tokens, reverse=True)
    lengths = [row_tokens(row) for row in ordered]
    count = -(-len(_cut(lengths, max_tokens)) // multiple_of) * multiple_of

    # The smallest bound that still needs no more than `count` micro-batches makes them most even.
    low, high = 0, max_tokens
    while low < high:
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
    """`loss = Σ_shards Σ_microbatches Σ_i w_i Σ_t l_it`: plans one optimizer step.

    The weights make the *sum* of the losses of all Learners (shards) the loss of the mini-batch.

    Args:
        responses: Responses of the mini-batch, those of a group next to each other.
        loss_aggregation: Name of the normalizer, see `core.normalizer`.
        max_response_tokens: The constant of the normalizer `sequence_sum_norm`, in tokens.
        max_tokens_per_microbatch: Bound on the padded size of a micro-batch, in tokens.
        max_row_tokens: Bound on rows shared by responses to one prompt, in tokens; 0 shares none.
        num_shards: Number of Learners.

    Returns:
        `num_shards` plans with equally many micro-batches each. A Learner without work has empty
        ones, which it runs in step with the others.

    Source: DAPO, Eq. 8 and 12 (arXiv 2503.14476), as a plain sum; see `core.normalizer`.
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

    # Weights are those of the whole mini-batch; only `microbatch_token_mean` depends on the cut.
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
        - `input_ids`, `position_ids` `[R, S]`: positions of every response of a row continue those
            of the prompt;
        - `segment_ids` `[R, S]`: 0 for the prompt, k for the k-th response of the row, -1 for
            padding;
        - `predictor` `[B, T]`: flat index into `[R * S]` of the position whose output predicts the
            token;
        - `response_ids` `[B, T]`, `mask` `[B, T]` bool, `sampler_logprobs` `[B, T]` float32, in
            nats;
        - `advantages`, `rewards`, `weights` `[B]` float64.

    Source: definition of a row, at the top of this module.
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
    # not know.
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

            # The last token of the prompt predicts the first token of every response; after that
            # each token predicts its successor.
            batch["predictor"][b, 0] = r * width + prompt - 1
            batch["predictor"][b, 1:n] = r * width + torch.arange(start, start + n - 1)

            batch["response_ids"][b, :n] = ids
            batch["mask"][b, :n] = torch.tensor(response.loss_mask)
            batch["sampler_logprobs"][b, :n] = torch.tensor(response.logprobs)
            start, b = start + n, b + 1

    return batch


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
