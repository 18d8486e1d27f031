"""From responses to mini-batches and micro-batches of like work.

A mini-batch is what one optimizer step sees. It is cut into micro-batches of bounded size in
tokens, so that memory is bounded, and of like work, so that no processor waits for another.

Lengths are known before any token moves, so the driver plans all of this from summaries: the loss
does not depend on the number of Learners, and no collective is needed to agree on the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar

from rllib_dapo.core.balance import Balance, balance_rows
from rllib_dapo.core.normalizer import LossAggregation, response_weights
from rllib_dapo.core.row_work import TOKENS_ALONE, RowWork
from rllib_dapo.core.rows import Row, TrainResponse, pack_rows

Item = TypeVar("Item")

# Most keys of a query under `auto`: a mask has a number for each pair, and with so many keys that
# of a micro-batch of 32,768 tokens has 134 million.
AUTO_KEYS = 4096


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


def plan_minibatch(
    responses: Sequence[TrainResponse],
    *,
    loss_aggregation: LossAggregation,
    max_response_tokens: int,
    max_tokens_per_microbatch: int,
    max_row_tokens: int | Literal["auto"] = 0,
    num_shards: int = 1,
    work: RowWork = TOKENS_ALONE,
) -> list[MiniBatchPlan]:
    """`loss = Σ_shards Σ_microbatches Σ_i w_i Σ_t l_it`: plans one optimizer step.

    The weights make the *sum* of the losses of all Learners (shards) the loss of the mini-batch.

    Args:
        responses: Responses of the mini-batch, those of a group next to each other.
        loss_aggregation: Name of the normalizer, see `core.normalizer`.
        max_response_tokens: The constant of the normalizer `sequence_sum_norm`, in tokens.
        max_tokens_per_microbatch: Bound on the padded size of a micro-batch, in tokens.
        max_row_tokens: Bound on rows shared by responses to one prompt, in tokens; 0 shares none,
            `auto` those that make the step shorter.
        num_shards: Number of Learners.
        work: What tokens cost.

    Returns:
        `num_shards` plans with equally many micro-batches each. A Learner without work has empty
        ones, which it runs in step with the others.

    Source: DAPO, Eq. 8 and 12 (arXiv 2503.14476), as a plain sum; see `core.normalizer`.
    """

    def balanced(rows: Sequence[Row]) -> Balance:
        return balance_rows(
            rows, max_tokens=max_tokens_per_microbatch, num_shards=num_shards, work=work
        )

    if max_row_tokens == "auto":
        packings = _packings(responses, max_tokens_per_microbatch, num_shards, work)
        found = min(map(balanced, packings), key=lambda balance: balance.load)
    else:
        found = balanced(pack_rows(responses, max_row_tokens=max_row_tokens))

    def weights(of: Sequence[TrainResponse]) -> list[float]:
        return response_weights(
            [r.loss_tokens for r in of],
            [r.group for r in of],
            loss_aggregation=loss_aggregation,
            max_response_tokens=max_response_tokens,
        )

    # Weights are those of the whole mini-batch; only `microbatch_token_mean` depends on the cut.
    weight_of = dict(zip(((r.group, r.index) for r in responses), weights(responses), strict=True))

    def planned(run: Sequence[Row]) -> MicroBatchPlan:
        inside = [response for row in run for response in row]
        if loss_aggregation == "microbatch_token_mean":
            micro_weights = [w * len(inside) / len(responses) for w in weights(inside)]
        else:
            micro_weights = [weight_of[r.group, r.index] for r in inside]
        return MicroBatchPlan(rows=tuple(run), weights=tuple(micro_weights))

    return [tuple(planned(run) for run in runs) for runs in found.runs]


def _packings(
    responses: Sequence[TrainResponse], max_row_tokens: int, num_shards: int, work: RowWork
) -> list[list[Row]]:
    """Ways to share rows, from whole groups to none.

    Fewer and longer rows are less work in all, and harder to spread over many Learners.
    """

    def packed(most: int | None) -> list[Row]:
        return pack_rows(
            responses, max_row_tokens=max_row_tokens, most=most, work=work, max_keys=AUTO_KEYS
        )

    packings = [packed(None)]
    most = max(map(len, packings[0]), default=1)
    while most > 1:
        most = most // 2 if num_shards > 1 else 1
        packings.append(packed(most))
    return packings
