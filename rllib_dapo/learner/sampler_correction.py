"""What is done about the gap between the old policy and the engine's probabilities."""

from __future__ import annotations

from torch import Tensor

from rllib_dapo.core import importance_weights, sequences_within, tokens_within
from rllib_dapo.learner.planned_batch import MicroBatch
from rllib_dapo.learner.statistics import TokenStatistics

# What is usual for `importance_sampling.cap`, where something else than a user switches it on.
USUAL_CAP = 2.0


def correct_sampler(
    batch: MicroBatch,
    old_logprobs: Tensor,
    *,
    cap: float | None,
    sequence_bounds: tuple[float, float] | None,
    token_bounds: tuple[float, float] | None,
    statistics: TokenStatistics,
) -> tuple[Tensor, Tensor | None]:
    """Truncated importance sampling, and tokens and responses left out on which the two disagree.

    Args:
        batch: Micro-batch of `core.collate`, perhaps with `token_mask`, `[B, T]`.
        old_logprobs: `[B, T]` log-probabilities under the old policy.
        cap: `importance_sampling.cap`.
        sequence_bounds: `importance_sampling.sequence_bounds`.
        token_bounds: `importance_sampling.token_bounds`.
        statistics: Totals of the update, to which what was done is added.

    Returns:
        Which tokens train the policy, `[B, T]`, and their importance weights, `[B, T]` or None.
    """
    mask, sampler = batch.get("token_mask", batch["mask"]), batch["sampler_logprobs"]

    if sequence_bounds is not None:
        low, high = sequence_bounds
        within = sequences_within(old_logprobs, sampler, batch["mask"], low=low, high=high)
        statistics.add(responses=len(within), masked_responses=(~within).sum())
        mask = mask & within[:, None]

    if token_bounds is not None:
        low, high = token_bounds
        kept = tokens_within(old_logprobs, sampler, batch["mask"], low=low, high=high)
        statistics.add(bounded_tokens=batch["mask"].sum(), masked_tokens=(~kept).sum())
        mask = mask & kept

    if cap is None:
        return mask, None

    weights = importance_weights(old_logprobs, sampler, batch["mask"], cap=cap)
    statistics.add(importance_capped=(weights >= cap)[batch["mask"]].sum())
    return mask, weights
