"""Figures of an evaluation within training, from the groups' summaries."""

from __future__ import annotations

from collections.abc import Sequence

from rllib_dapo.core.types import GroupSummary
from rllib_dapo.metrics.estimators import average_at, majority_at, mean, tally
from rllib_dapo.metrics.rollout_metrics import verdict_metrics


def average_at_k(groups: Sequence[GroupSummary]) -> float:
    """avg@k: the mean over problems of the share of correct responses.

    A response without a verdict counts as one that is not correct.

    Args:
        groups: Summaries of the groups, one per problem, of `k` responses each.

    Raises:
        ValueError: If there is no group with a response.
    """
    answered = [g for g in groups if g.is_correct]
    if not answered:
        raise ValueError("nothing to evaluate: no prompt fits rollout.max_prompt_tokens")
    return mean(
        [average_at(sum(bool(c) for c in g.is_correct), len(g.is_correct)) for g in answered]
    )


def evaluation_metrics(groups: Sequence[GroupSummary]) -> dict[str, float]:
    """The figures of an evaluation by name, with the names of training where they are the same.

    Args:
        groups: Summaries of the groups, one per problem.

    Returns:
        `avg@k` and `pass@k` where the environment says what is correct, and `maj@k` where it also
        finds predictions; the number of problems; the figures of `verdict_metrics`.

    Raises:
        ValueError: If there is no group with a response.
    """
    metrics = {**verdict_metrics(groups), "problems": len(groups)}

    # An environment that only grades knows no accuracy.
    answered = [g for g in groups if g.is_correct]
    if answered and all(c is None for g in answered for c in g.is_correct):
        return metrics

    metrics[f"avg@{_samples(groups)}"] = average_at_k(groups)
    metrics[f"pass@{_samples(groups)}"] = mean([float(any(g.is_correct)) for g in answered])
    if any(prediction for g in answered for prediction in g.predictions):
        metrics[f"maj@{_samples(groups)}"] = mean([_majority(g) for g in answered])
    return metrics


def _samples(groups: Sequence[GroupSummary]) -> int:
    return max(len(g.is_correct) for g in groups)


def _majority(group: GroupSummary) -> float:
    samples = len(group.is_correct)
    return majority_at(tally(group.predictions, group.is_correct), samples, samples)
