"""Rows: a prompt followed by one or more of its responses, which is one sequence of a forward pass.

Responses that share a row share the computation of the prompt, and the step is several times
shorter where prompts are long. A mask keeps them from seeing each other, so the numbers are those
of separate rows where attention is plain causal or has windows; with sinks or state they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rllib_dapo.core.row_work import TOKENS_ALONE, RowWork


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


def row_tokens(row: Row) -> int:
    """`P + Σ_i T_i`: length of a row in tokens, the prompt and all its responses.

    Args:
        row: Responses to one prompt.

    Source: definition of a row, at the top of this module.
    """
    return row[0].prompt_tokens + sum(response.response_tokens for response in row)


def keys_of(row: Row, *, takes_blocks: bool) -> int:
    """`S`, or `P + max_i T_i` with blocks: keys for which a mask has a number, for each query.

    Args:
        row: Responses to one prompt.
        takes_blocks: See `RowWork`.

    Source: `core.attention_mask`, `models.block_attention`.
    """
    if takes_blocks:
        return row[0].prompt_tokens + max(response.response_tokens for response in row)
    return row_tokens(row)


def pack_rows(
    responses: Sequence[TrainResponse],
    *,
    max_row_tokens: int,
    most: int | None = None,
    work: RowWork | None = None,
    max_keys: int | None = None,
) -> list[Row]:
    """`P + Σ_i T_i <= max_row_tokens` for every shared row: puts responses to one prompt together.

    Args:
        responses: Responses of one mini-batch, those of a group next to each other.
        max_row_tokens: Bound on a shared row, in tokens; 0 gives every response a row of its own.
        most: Most responses of a row; None for any number.
        work: What tokens cost. A response then joins a row only where that is less work than a row
            of its own; None lets it join wherever it fits.
        max_keys: Bound on a mask's numbers for each query; None for none. Only with `work`.

    Source: first-fit packing in the order given.
    """
    rows: list[Row] = []
    for response in responses:
        joined = (*rows[-1], response) if rows else (response,)
        fits = (
            len(joined) > 1
            and joined[0].group == response.group
            and row_tokens(joined) <= max_row_tokens
            and (most is None or len(joined) <= most)
            and (work is None or _pays(joined, work, max_keys))
        )
        if fits:
            rows[-1] = joined
        else:
            rows.append((response,))
    return rows


def row_work(row: Row, work: RowWork) -> float:
    """`per_pair * pairs + per_response * Σ_i T_i`: work of a row beside its tokens' projections.

    Args:
        row: Responses to one prompt.
        work: What tokens cost.

    Source: definition of `RowWork`.
    """
    lengths = [response.response_tokens for response in row]
    pairs = work.pairs(row[0].prompt_tokens, lengths)
    return work.per_pair * pairs + work.per_response * sum(lengths)


def run_work(rows: Sequence[Row], work: RowWork = TOKENS_ALONE) -> float:
    """`R S + Σ_rows w(row)`: work of rows that go through the model together, padding included.

    Args:
        rows: `R` rows, padded to the longest, of `S` tokens.
        work: What tokens cost.

    Source: definition of a micro-batch, in `core.batching`.
    """
    padded = len(rows) * max(map(row_tokens, rows), default=0)
    return float(padded + sum(row_work(row, work) for row in rows))


def _pays(joined: Row, work: RowWork, max_keys: int | None) -> bool:
    """Whether the last response of this row costs less here than in a row of its own."""
    if max_keys is not None and keys_of(joined, takes_blocks=work.takes_blocks) > max_keys:
        return False
    apart = (joined[:-1], joined[-1:])
    return run_work([joined], work) < sum(run_work([row], work) for row in apart)
