"""The figures of one rollout, from the summaries of its groups.

Rewards, accuracy, lengths, missing verdicts, and what dynamic sampling decided.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ray.rllib.utils.metrics import (
    EPISODE_LEN_MAX,
    EPISODE_LEN_MEAN,
    EPISODE_LEN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
)

from rllib_dapo.core.types import GroupSummary
from rllib_dapo.envs.verify.verdict import MissingReason
from rllib_dapo.metrics.metric_table import (
    ACCURACY,
    COMPLETED_AND_CORRECT,
    RESPONSE_LENGTH_MEAN,
    REWARD_COMPONENTS,
    REWARD_METRICS,
    share,
)

if TYPE_CHECKING:
    from rllib_dapo.rollout.dynamic_sampler import DynamicSampler


# What `Decision` calls the reasons why groups are dropped.
_DROPPED = (
    "all_correct",
    "all_wrong",
    "no_signal",
    "missing",
    "prompt_too_long",
    "prompt_lost",
    "skipped",
)


def rollout_metrics(sampler: DynamicSampler) -> dict[str, float]:
    """The figures of one step of dynamic sampling, by name.

    All but the counts of groups and tokens are of the groups that were decided on: they do not
    depend on which EnvRunner was faster.

    Args:
        sampler: Dynamic sampling at its end.
    """
    groups = sampler.seen
    decisions = {str(decision): count for decision, count in sampler.decisions.items()}
    accepted = decisions.get("accepted", 0)
    result = {
        **verdict_metrics(groups),
        "groups_generated": sum(not group.skipped for group in groups) + sampler.surplus,
        "groups_accepted": accepted,
        "groups_surplus": sampler.surplus,
        "groups_given_up": sampler.given_up,
        "groups_expired": sampler.expired,
        "groups_reused": len(sampler.reused),
        "tokens_per_accepted_group": sampler.tokens / max(1, accepted),
        "acceptance_rate": sampler.acceptance_rate,
        "sampling_rounds": sampler.rounds,
    }
    for reason in _DROPPED:
        result[f"groups_{reason}"] = decisions.get(reason, 0)
    return result


def staleness_metrics(groups: Sequence[GroupSummary], version: int) -> dict[str, float]:
    """How much older the weights were that sampled a batch, than those that are trained on it.

    Args:
        groups: Summaries of the batch.
        version: Version of the weights that are trained.

    Returns:
        The mean over the policy's tokens, and the largest, in updates; nothing where there is none.
    """
    counts: Counter[int] = Counter()
    for group in groups:
        counts.update({version - v: count for v, count in group.tokens_by_version.items()})
    total = counts.total()
    if not total:
        return {}
    return {
        "staleness_mean": sum(age * count for age, count in counts.items()) / total,
        "staleness_max": max(age for age, count in counts.items() if count),
    }


def verdict_metrics(groups: Sequence[GroupSummary]) -> dict[str, float]:
    """Rewards, accuracy, lengths and missing verdicts of all responses of some groups.

    Args:
        groups: Summaries of the groups.

    Returns:
        Figures by name; those that nothing is known about are not there.
    """
    rewards = [r for g in groups for r in g.rewards if not math.isnan(r)]
    verdicts = [
        (is_correct, is_truncated)
        for group in groups
        for is_correct, is_truncated in zip(group.is_correct, group.is_truncated, strict=True)
        if is_correct is not None
    ]
    lengths = [n for g in groups for n in g.response_tokens]

    result: dict[str, float] = {}
    if rewards:
        result |= {
            EPISODE_RETURN_MEAN: sum(rewards) / len(rewards),
            EPISODE_RETURN_MIN: min(rewards),
            EPISODE_RETURN_MAX: max(rewards),
        }
    if verdicts:
        result |= {
            ACCURACY: sum(is_correct for is_correct, _ in verdicts) / len(verdicts),
            # An answer that never ends may be right as far as it goes.
            COMPLETED_AND_CORRECT: sum(
                is_correct and not is_truncated for is_correct, is_truncated in verdicts
            )
            / len(verdicts),
        }
    if lengths:
        turns = [n for g in groups for n in g.num_turns]
        result |= {
            EPISODE_LEN_MEAN: sum(turns) / len(turns),
            EPISODE_LEN_MIN: min(turns),
            EPISODE_LEN_MAX: max(turns),
            RESPONSE_LENGTH_MEAN: sum(lengths) / len(lengths),
            "response_length_max": max(lengths),
            "truncated_fraction": share(
                sum(t for g in groups for t in g.is_truncated), len(lengths)
            ),
            "missing_reward_fraction": share(len(lengths) - len(rewards), len(lengths)),
            **_missing_by_cause(groups),
        }
    return result | {
        **_means(REWARD_COMPONENTS, (parts for group in groups for parts in group.components)),
        **_means(REWARD_METRICS, (figures for group in groups for figures in group.metrics)),
    }


def _missing_by_cause(groups: Sequence[GroupSummary]) -> dict[str, int]:
    """Counts of missing verdicts by their cause: what is before the colon of a reason."""
    causes = Counter(
        reason.partition(":")[0]
        for group in groups
        for reward, reason in zip(group.rewards, group.reasons, strict=True)
        if math.isnan(reward)
    )
    known = {f"missing_{cause.replace(' ', '_')}": causes.pop(cause, 0) for cause in MissingReason}
    return {**known, "missing_other": causes.total()}


def _means(before: str, figures: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure over the responses that have it; a part without a verdict is NaN."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for named in figures:
        for name, value in named.items():
            if not math.isnan(value):
                values[name].append(value)
    return {f"{before}{name}": math.fsum(v) / len(v) for name, v in sorted(values.items())}
