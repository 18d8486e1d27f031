"""Figures of an evaluation, from the groups' summaries."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rllib_dapo.core.types import GroupSummary
from rllib_dapo.metrics import verdict_metrics


def average_at_k(groups: Sequence[GroupSummary]) -> float:
    """avg@k: the mean over problems of the share of correct responses; a missing verdict is not a correct one.

    Args:
        groups: One per problem, of `k` responses each.

    Raises:
        ValueError: If there is no group with a response.
    """
    shares = [sum(bool(c) for c in g.is_correct) / len(g.is_correct) for g in groups if g.is_correct]
    if not shares:
        raise ValueError("nothing to evaluate: no prompt fits rollout.max_prompt_tokens")
    return math.fsum(shares) / len(shares)


def evaluation_metrics(groups: Sequence[GroupSummary]) -> dict[str, float]:
    """What an evaluation reports, under names like training's.

    Args:
        groups: One per problem.

    Raises:
        ValueError: If there is no group with a response.
    """
    metrics = {**verdict_metrics(groups), "problems": len(groups)}
    verdicts = [c for g in groups for c in g.is_correct]
    if not verdicts or any(c is not None for c in verdicts):  # an environment that only grades knows no accuracy
        metrics[f"avg@{max(len(g.is_correct) for g in groups)}"] = average_at_k(groups)
    return metrics
