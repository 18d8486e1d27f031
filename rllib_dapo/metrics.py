"""Every metric's name, unit and reduction, in one table; and the figures computed from groups and updates.

All means are token- or response-weighted: one division of two totals over the whole training step, never a mean of
means. The names stand under RLlib's own keys: `env_runners/...` and `learners/default_policy/...`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

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

if TYPE_CHECKING:
    from rllib_dapo.learner.statistics import TokenStatistics
    from rllib_dapo.rollout.sampler import DynamicSampler

Source = Literal["env_runners", "learners/default_policy"]


class Metric(NamedTuple):
    """One row of the table."""

    name: str
    source: Source
    unit: str
    reduction: str
    meaning: str


ACCURACY = "accuracy"
ENTROPY = "entropy"
RESPONSE_LENGTH_MEAN = "response_length_mean"
NUM_GRADIENT_UPDATES_LIFETIME = "num_gradient_updates_lifetime"
ROLLOUT_TOKENS_PER_SECOND = "rollout_tokens_per_second"
REWARD_COMPONENTS = "reward_components/"

_ENV: Source = "env_runners"
_LEARNER: Source = "learners/default_policy"
EQUAL_RETURNS = 1e-9
STEP, UPDATE, RUN = "training step", "update", "whole run"

METRICS: tuple[Metric, ...] = (
    Metric(EPISODE_RETURN_MEAN, _ENV, "reward", STEP, "mean raw reward of all responses with a verdict"),
    Metric(EPISODE_RETURN_MIN, _ENV, "reward", STEP, "smallest raw reward"),
    Metric(EPISODE_RETURN_MAX, _ENV, "reward", STEP, "largest raw reward"),
    Metric(EPISODE_LEN_MEAN, _ENV, "steps", STEP, "environment steps per episode: how often the policy spoke"),
    Metric(EPISODE_LEN_MIN, _ENV, "steps", STEP, "fewest environment steps of an episode"),
    Metric(EPISODE_LEN_MAX, _ENV, "steps", STEP, "most environment steps of an episode"),
    Metric(ACCURACY, _ENV, "share", STEP, "correct responses over responses with a verdict, before filtering"),
    Metric("shaped_reward_mean", _ENV, "reward", STEP, "mean reward of accepted responses after overlong punishment"),
    Metric("overlong_penalty_mean", _ENV, "reward", STEP, "mean soft overlong punishment of accepted responses"),
    Metric(RESPONSE_LENGTH_MEAN, _ENV, "tokens", STEP, "mean response length"),
    Metric("response_length_max", _ENV, "tokens", STEP, "longest response"),
    Metric("truncated_fraction", _ENV, "share", STEP, "responses that hit the length limit"),
    Metric("missing_reward_fraction", _ENV, "share", STEP, "responses without a verdict"),
    Metric("missing_timeout", _ENV, "responses", STEP, "without a verdict: scoring passed its deadline"),
    Metric("missing_crash", _ENV, "responses", STEP, "without a verdict: scoring raised, died or ran out of memory"),
    Metric("missing_too_long", _ENV, "responses", STEP, "without a verdict: too long a text to score"),
    Metric("missing_other", _ENV, "responses", STEP, "without a verdict: any other reason"),
    Metric(f"{REWARD_COMPONENTS}*", _ENV, "reward", STEP, "mean of each part of the reward, by its name in place of *"),
    Metric("groups_generated", _ENV, "groups", STEP, "groups sampled"),
    Metric("groups_accepted", _ENV, "groups", STEP, "informative groups trained on"),
    Metric("groups_all_correct", _ENV, "groups", STEP, "dropped: every response correct"),
    Metric("groups_all_wrong", _ENV, "groups", STEP, "dropped: every response wrong"),
    Metric("groups_no_signal", _ENV, "groups", STEP, "dropped: graded rewards all equal"),
    Metric("groups_missing", _ENV, "groups", STEP, "dropped: fewer than two verdicts"),
    Metric("groups_prompt_too_long", _ENV, "groups", STEP, "dropped: prompt over the limit"),
    Metric("groups_surplus", _ENV, "groups", STEP, "informative, but the batch was full; the prompts come again"),
    Metric("acceptance_rate", _ENV, "share", STEP, "informative groups over groups generated"),
    Metric("sampling_rounds", _ENV, "rounds", STEP, "rounds of dynamic sampling"),
    Metric(ROLLOUT_TOKENS_PER_SECOND, _ENV, "tokens/s", STEP, "sampled tokens over the time of sampling"),
    Metric("generation_seconds", _ENV, "s", STEP, "time in the engines, summed over EnvRunners"),
    Metric("scoring_seconds", _ENV, "s", STEP, "time in environments, summed over EnvRunners"),
    Metric("policy_loss", _LEARNER, "1", UPDATE, "mean policy loss of the mini-batches"),
    Metric("total_loss", _LEARNER, "1", UPDATE, "mean of all that is minimized: with divergence, entropy and values"),
    Metric(ENTROPY, _LEARNER, "nats", UPDATE, "mean entropy of the policy at response tokens"),
    Metric("mean_token_probability", _LEARNER, "probability", UPDATE, "mean probability of the sampled tokens"),
    Metric("clip_fraction_low", _LEARNER, "share", UPDATE, "tokens with negative advantage under 1 - epsilon_low"),
    Metric("clip_fraction_high", _LEARNER, "share", UPDATE, "tokens with positive advantage over 1 + epsilon_high"),
    Metric("ratio_mean", _LEARNER, "1", UPDATE, "mean importance ratio"),
    Metric("ratio_max", _LEARNER, "1", UPDATE, "largest importance ratio"),
    Metric("gradient_norm", _LEARNER, "1", UPDATE, "mean global gradient norm before clipping"),
    Metric("gradient_norm_max", _LEARNER, "1", UPDATE, "largest global gradient norm before clipping"),
    Metric("gradient_updates", _LEARNER, "steps", UPDATE, "optimizer steps taken"),
    Metric(NUM_GRADIENT_UPDATES_LIFETIME, _LEARNER, "steps", RUN, "optimizer steps taken"),
    Metric("skipped_updates", _LEARNER, "steps", UPDATE, "optimizer steps left out: gradient not finite"),
    Metric("sampler_logprob_gap_mean", _LEARNER, "nats", UPDATE, "mean |log-prob of trainer - log-prob of sampler|"),
    Metric("sampler_logprob_gap_max", _LEARNER, "nats", UPDATE, "largest such gap"),
    Metric("trained_tokens", _LEARNER, "tokens", UPDATE, "response tokens with loss"),
    Metric("kl", _LEARNER, "nats", UPDATE, "mean estimate per token of the KL divergence to the reference"),
    Metric("trained_token_fraction", _LEARNER, "share", UPDATE, "tokens that masks left in the loss"),
    Metric("importance_capped_fraction", _LEARNER, "share", UPDATE, "tokens whose importance weight hit the cap"),
    Metric(
        "masked_response_fraction", _LEARNER, "share", UPDATE, "responses masked: trainer and sampler too far apart"
    ),
    Metric("value_loss", _LEARNER, "1", UPDATE, "mean value loss of the mini-batches, before its coefficient"),
    Metric("value_clip_fraction", _LEARNER, "share", UPDATE, "tokens whose value loss is clipped"),
    Metric("explained_variance", _LEARNER, "share", UPDATE, "variance of the returns that the values explain"),
)


def rollout_metrics(sampler: DynamicSampler) -> dict[str, float]:
    """What one step of dynamic sampling shows, from its summaries.

    Args:
        sampler: After its last round.
    """
    groups = sampler.seen
    decisions = {str(decision): count for decision, count in sampler.decisions.items()}
    result = {
        **verdict_metrics(groups),
        "groups_generated": len(groups),
        "groups_accepted": len(sampler.accepted),
        "groups_surplus": sampler.surplus,
        "acceptance_rate": sampler.acceptance_rate,
        "sampling_rounds": sampler.rounds,
    }
    for reason in ("all_correct", "all_wrong", "no_signal", "missing", "prompt_too_long"):
        result[f"groups_{reason}"] = decisions.get(reason, 0)
    return result


def verdict_metrics(groups: Sequence[GroupSummary]) -> dict[str, float]:
    """Rewards, accuracy, lengths and missing verdicts of all responses of some groups; empty where there is none."""
    rewards = [r for g in groups for r in g.rewards if not math.isnan(r)]
    verdicts = [c for g in groups for c in g.is_correct if c is not None]
    lengths = [n for g in groups for n in g.response_tokens]
    result: dict[str, float] = {}
    if rewards:
        result |= {
            EPISODE_RETURN_MEAN: sum(rewards) / len(rewards),
            EPISODE_RETURN_MIN: min(rewards),
            EPISODE_RETURN_MAX: max(rewards),
        }
    if verdicts:
        result[ACCURACY] = sum(verdicts) / len(verdicts)
    if lengths:
        turns = [n for g in groups for n in g.num_turns]
        result |= {
            EPISODE_LEN_MEAN: sum(turns) / len(turns),
            EPISODE_LEN_MIN: min(turns),
            EPISODE_LEN_MAX: max(turns),
            RESPONSE_LENGTH_MEAN: sum(lengths) / len(lengths),
            "response_length_max": max(lengths),
            "truncated_fraction": _share(sum(t for g in groups for t in g.is_truncated), len(lengths)),
            "missing_reward_fraction": _share(len(lengths) - len(rewards), len(lengths)),
            **_missing_by_cause(groups),
        }
    return result | _component_means(groups)


def _missing_by_cause(groups: Sequence[GroupSummary]) -> dict[str, int]:
    """Counts of missing verdicts by what stands before the colon of their reasons."""
    causes = Counter(
        reason.partition(":")[0]
        for group in groups
        for reward, reason in zip(group.rewards, group.reasons, strict=True)
        if math.isnan(reward)
    )
    known = {f"missing_{cause.replace(' ', '_')}": causes.pop(cause, 0) for cause in MissingReason}
    return {**known, "missing_other": causes.total()}


def _component_means(groups: Sequence[GroupSummary]) -> dict[str, float]:
    """Of each part of the reward the mean over the responses that have it."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for group in groups:
        for components in group.components:
            for name, value in components.items():
                values[name].append(value)
    return {f"{REWARD_COMPONENTS}{name}": math.fsum(v) / len(v) for name, v in sorted(values.items())}


def learner_metrics(statistics: TokenStatistics) -> dict[str, float]:
    """What one update shows, from its totals.

    Args:
        statistics: Everything added since the update began.
    """
    taken = statistics.sum("gradient_updates")
    response_tokens = statistics.sum("response_tokens")
    result = {
        "policy_loss": statistics.mean("policy_loss_sum", over="minibatches"),
        "total_loss": statistics.mean("total_loss", over="minibatches"),
        ENTROPY: statistics.mean("entropy_sum", over="response_tokens"),
        "mean_token_probability": statistics.mean("probability_sum", over="response_tokens"),
        "clip_fraction_low": statistics.mean("clip_low_count"),
        "clip_fraction_high": statistics.mean("clip_high_count"),
        "ratio_mean": statistics.mean("ratio_sum"),
        "ratio_max": statistics.max("ratio_max"),
        "gradient_norm": statistics.mean("gradient_norm", over="gradient_updates"),
        "gradient_norm_max": statistics.max("gradient_norm_max"),
        "gradient_updates": taken,
        "skipped_updates": statistics.sum("skipped_updates"),
        "sampler_logprob_gap_mean": statistics.mean("gap_sum", over="gap_tokens"),
        "sampler_logprob_gap_max": statistics.max("gap_max"),
        "trained_tokens": statistics.sum("tokens"),
        "trained_token_fraction": _share(statistics.sum("tokens"), response_tokens),
    }
    if statistics.has("kl_sum"):
        result["kl"] = statistics.mean("kl_sum")
    if statistics.has("importance_capped"):
        result["importance_capped_fraction"] = statistics.mean("importance_capped", over="response_tokens")
    if statistics.has("masked_responses"):
        result["masked_response_fraction"] = statistics.mean("masked_responses", over="responses")
    if statistics.has("value_loss_sum"):
        result |= _value_metrics(statistics)
    return result


def _value_metrics(statistics: TokenStatistics) -> dict[str, float]:
    tokens = statistics.sum("tokens")
    mean_square = statistics.mean("return_square_sum")
    variance = mean_square - statistics.mean("return_sum") ** 2
    error = statistics.mean("value_error_square_sum")
    return {
        "value_loss": statistics.mean("value_loss_sum", over="minibatches"),
        "value_clip_fraction": _share(statistics.sum("value_clip_count"), tokens),
        # Returns that are all equal have nothing to explain.
        "explained_variance": 1.0 - error / variance if variance > EQUAL_RETURNS * mean_square else 0.0,
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
