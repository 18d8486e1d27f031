"""Every metric's name, unit and reduction, in one table; and the figures computed from groups and updates.

All means are token- or response-weighted: one division of two totals over the whole training step,
never a mean of means. The names stand under RLlib's own keys: `env_runners/...` and
`learners/default_policy/...`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from ray.rllib.utils.metrics import (
    EPISODE_LEN_MAX,
    EPISODE_LEN_MEAN,
    EPISODE_LEN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
)

if TYPE_CHECKING:
    pass

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
    Metric(
        EPISODE_RETURN_MEAN, _ENV, "reward", STEP, "mean raw reward of all responses with a verdict"
    ),
    Metric(EPISODE_RETURN_MIN, _ENV, "reward", STEP, "smallest raw reward"),
    Metric(EPISODE_RETURN_MAX, _ENV, "reward", STEP, "largest raw reward"),
    Metric(
        EPISODE_LEN_MEAN,
        _ENV,
        "steps",
        STEP,
        "environment steps per episode: how often the policy spoke",
    ),
    Metric(EPISODE_LEN_MIN, _ENV, "steps", STEP, "fewest environment steps of an episode"),
    Metric(EPISODE_LEN_MAX, _ENV, "steps", STEP, "most environment steps of an episode"),
    Metric(
        ACCURACY,
        _ENV,
        "share",
        STEP,
        "correct responses over responses with a verdict, before filtering",
    ),
    Metric(
        "shaped_reward_mean",
        _ENV,
        "reward",
        STEP,
        "mean reward of accepted responses after overlong punishment",
    ),
    Metric(
        "overlong_penalty_mean",
        _ENV,
        "reward",
        STEP,
        "mean soft overlong punishment of accepted responses",
    ),
    Metric(RESPONSE_LENGTH_MEAN, _ENV, "tokens", STEP, "mean response length"),
    Metric("response_length_max", _ENV, "tokens", STEP, "longest response"),
    Metric("truncated_fraction", _ENV, "share", STEP, "responses that hit the length limit"),
    Metric("missing_reward_fraction", _ENV, "share", STEP, "responses without a verdict"),
    Metric(
        "missing_timeout", _ENV, "responses", STEP, "without a verdict: scoring passed its deadline"
    ),
    Metric(
        "missing_crash",
        _ENV,
        "responses",
        STEP,
        "without a verdict: scoring raised, died or ran out of memory",
    ),
    Metric(
        "missing_too_long", _ENV, "responses", STEP, "without a verdict: too long a text to score"
    ),
    Metric("missing_other", _ENV, "responses", STEP, "without a verdict: any other reason"),
    Metric(
        f"{REWARD_COMPONENTS}*",
        _ENV,
        "reward",
        STEP,
        "mean of each part of the reward, by its name in place of *",
    ),
    Metric("groups_generated", _ENV, "groups", STEP, "groups sampled"),
    Metric("groups_accepted", _ENV, "groups", STEP, "informative groups trained on"),
    Metric("groups_all_correct", _ENV, "groups", STEP, "dropped: every response correct"),
    Metric("groups_all_wrong", _ENV, "groups", STEP, "dropped: every response wrong"),
    Metric("groups_no_signal", _ENV, "groups", STEP, "dropped: graded rewards all equal"),
    Metric("groups_missing", _ENV, "groups", STEP, "dropped: fewer than two verdicts"),
    Metric("groups_prompt_too_long", _ENV, "groups", STEP, "dropped: prompt over the limit"),
    Metric(
        "groups_surplus",
        _ENV,
        "groups",
        STEP,
        "informative, but the batch was full; the prompts come again",
    ),
    Metric("acceptance_rate", _ENV, "share", STEP, "informative groups over groups generated"),
    Metric("sampling_rounds", _ENV, "rounds", STEP, "rounds of dynamic sampling"),
    Metric(
        ROLLOUT_TOKENS_PER_SECOND,
        _ENV,
        "tokens/s",
        STEP,
        "sampled tokens over the time of sampling",
    ),
    Metric("generation_seconds", _ENV, "s", STEP, "time in the engines, summed over EnvRunners"),
    Metric("scoring_seconds", _ENV, "s", STEP, "time in environments, summed over EnvRunners"),
    Metric("policy_loss", _LEARNER, "1", UPDATE, "mean policy loss of the mini-batches"),
    Metric(
        "total_loss",
        _LEARNER,
        "1",
        UPDATE,
        "mean of all that is minimized: with divergence, entropy and values",
    ),
    Metric(ENTROPY, _LEARNER, "nats", UPDATE, "mean entropy of the policy at response tokens"),
    Metric(
        "mean_token_probability",
        _LEARNER,
        "probability",
        UPDATE,
        "mean probability of the sampled tokens",
    ),
    Metric(
        "clip_fraction_low",
        _LEARNER,
        "share",
        UPDATE,
        "tokens with negative advantage under 1 - epsilon_low",
    ),
    Metric(
        "clip_fraction_high",
        _LEARNER,
        "share",
        UPDATE,
        "tokens with positive advantage over 1 + epsilon_high",
    ),
    Metric("ratio_mean", _LEARNER, "1", UPDATE, "mean importance ratio"),
    Metric("ratio_max", _LEARNER, "1", UPDATE, "largest importance ratio"),
    Metric("gradient_norm", _LEARNER, "1", UPDATE, "mean global gradient norm before clipping"),
    Metric(
        "gradient_norm_max", _LEARNER, "1", UPDATE, "largest global gradient norm before clipping"
    ),
    Metric("gradient_updates", _LEARNER, "steps", UPDATE, "optimizer steps taken"),
    Metric(NUM_GRADIENT_UPDATES_LIFETIME, _LEARNER, "steps", RUN, "optimizer steps taken"),
    Metric(
        "skipped_updates",
        _LEARNER,
        "steps",
        UPDATE,
        "optimizer steps left out: gradient not finite",
    ),
    Metric(
        "sampler_logprob_gap_mean",
        _LEARNER,
        "nats",
        UPDATE,
        "mean |log-prob of trainer - log-prob of sampler|",
    ),
    Metric("sampler_logprob_gap_max", _LEARNER, "nats", UPDATE, "largest such gap"),
    Metric("trained_tokens", _LEARNER, "tokens", UPDATE, "response tokens with loss"),
    Metric(
        "kl",
        _LEARNER,
        "nats",
        UPDATE,
        "mean estimate per token of the KL divergence to the reference",
    ),
    Metric(
        "trained_token_fraction", _LEARNER, "share", UPDATE, "tokens that masks left in the loss"
    ),
    Metric(
        "importance_capped_fraction",
        _LEARNER,
        "share",
        UPDATE,
        "tokens whose importance weight hit the cap",
    ),
    Metric(
        "masked_response_fraction",
        _LEARNER,
        "share",
        UPDATE,
        "responses masked: trainer and sampler too far apart",
    ),
    Metric(
        "value_loss",
        _LEARNER,
        "1",
        UPDATE,
        "mean value loss of the mini-batches, before its coefficient",
    ),
    Metric("value_clip_fraction", _LEARNER, "share", UPDATE, "tokens whose value loss is clipped"),
    Metric(
        "explained_variance",
        _LEARNER,
        "share",
        UPDATE,
        "variance of the returns that the values explain",
    ),
)


def share(part: float, whole: float) -> float:
    """Part over whole; 0 where the whole is nothing."""
    return part / whole if whole else 0.0
