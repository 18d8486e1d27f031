"""Every metric's name, unit and reduction, in one table.

All means are token- or response-weighted: one division of two totals over the whole training step,
never a mean of means. The names are under RLlib's own keys, `env_runners/...` and
`learners/default_policy/...`, and under `seconds/...`. Gauges, Grafana's dashboard and
`docs/metrics.md` follow this table.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from ray.rllib.utils.metrics import (
    EPISODE_LEN_MAX,
    EPISODE_LEN_MEAN,
    EPISODE_LEN_MIN,
    EPISODE_RETURN_MAX,
    EPISODE_RETURN_MEAN,
    EPISODE_RETURN_MIN,
)

from rllib_dapo.metrics.iteration_seconds import SECONDS, IterationPart

Source = Literal["env_runners", "learners/default_policy", "seconds"]


class Metric(NamedTuple):
    """One row of the table.

    Attributes:
        name: Name under its source.
        source: RLlib's key.
        unit: Unit of the figure; `1` for plain numbers.
        reduction: What the figure is taken over.
        meaning: What it says, in a few words.
    """

    name: str
    source: Source
    unit: str
    reduction: str
    meaning: str


ACCURACY = "accuracy"
COMPLETED_AND_CORRECT = "completed_and_correct"
ENTROPY = "entropy"
RESPONSE_LENGTH_MEAN = "response_length_mean"
NUM_GRADIENT_UPDATES_LIFETIME = "num_gradient_updates_lifetime"
SKIPPED_IN_A_ROW = "skipped_updates_in_a_row"
ROLLOUT_TOKENS_PER_SECOND = "rollout_tokens_per_second"
REWARD_COMPONENTS = "reward_components/"
ENVIRONMENT = "environment_"  # before the figures of single environments of a mixture
REWARD_METRICS = "reward_metrics/"
OWN_FIGURES = "objective_figures/"

STEP, UPDATE, ITERATION, RUN = "training step", "update", "iteration", "whole run"


def _rollout(name: str, unit: str, meaning: str) -> Metric:
    return Metric(name, "env_runners", unit, STEP, meaning)


def _update(name: str, unit: str, meaning: str, *, reduction: str = UPDATE) -> Metric:
    return Metric(name, "learners/default_policy", unit, reduction, meaning)


def _seconds(part: IterationPart, meaning: str) -> Metric:
    return Metric(part, SECONDS, "s", ITERATION, meaning)


METRICS: tuple[Metric, ...] = (
    # Rewards, and the lengths of episodes and responses
    _rollout(EPISODE_RETURN_MEAN, "reward", "mean raw reward of all responses with a verdict"),
    _rollout(EPISODE_RETURN_MIN, "reward", "smallest raw reward"),
    _rollout(EPISODE_RETURN_MAX, "reward", "largest raw reward"),
    _rollout(
        EPISODE_LEN_MEAN, "steps", "environment steps per episode: how often the policy spoke"
    ),
    _rollout(EPISODE_LEN_MIN, "steps", "fewest environment steps of an episode"),
    _rollout(EPISODE_LEN_MAX, "steps", "most environment steps of an episode"),
    _rollout(
        ACCURACY, "share", "correct responses over responses with a verdict, before filtering"
    ),
    _rollout(
        COMPLETED_AND_CORRECT,
        "share",
        "correct responses that ended before the length limit, over responses with a verdict",
    ),
    _rollout(
        "shaped_reward_mean",
        "reward",
        "mean reward of accepted responses after overlong punishment",
    ),
    _rollout(
        "overlong_penalty_mean", "reward", "mean soft overlong punishment of accepted responses"
    ),
    _rollout(
        "overlong_buffer_tokens", "tokens", "width of the zone in which long responses are punished"
    ),
    _rollout(RESPONSE_LENGTH_MEAN, "tokens", "mean response length"),
    _rollout("response_length_max", "tokens", "longest response"),
    _rollout("truncated_fraction", "share", "responses that hit the length limit"),
    # Missing verdicts, in all and by cause
    _rollout("missing_reward_fraction", "share", "responses without a verdict"),
    _rollout("missing_timeout", "responses", "without a verdict: scoring passed its deadline"),
    _rollout(
        "missing_crash", "responses", "without a verdict: scoring raised, died or ran out of memory"
    ),
    _rollout("missing_too_long", "responses", "without a verdict: too long a text to score"),
    _rollout(
        "missing_rate_limited", "responses", "without a verdict: a judge is asked too much at once"
    ),
    _rollout(
        "missing_unreachable", "responses", "without a verdict: a judge does not answer, or fails"
    ),
    _rollout(
        "missing_unreadable", "responses", "without a verdict: a judge answers what is no verdict"
    ),
    _rollout(
        "missing_not_seeded",
        "responses",
        "without a verdict: the environment posed another problem at the second reset",
    ),
    _rollout("missing_other", "responses", "without a verdict: any other reason"),
    _rollout(
        f"{REWARD_COMPONENTS}*",
        "reward",
        "mean of each part of the reward, by its name in place of *",
    ),
    # Each environment of a mixture
    _rollout(f"{ENVIRONMENT}reward/*", "reward", "mean raw reward of an environment of a mixture"),
    _rollout(
        f"{ENVIRONMENT}accuracy/*", "share", "correct responses of an environment of a mixture"
    ),
    _rollout(
        f"{ENVIRONMENT}response_length/*",
        "tokens",
        "mean response length in an environment of a mixture",
    ),
    _rollout(
        f"{ENVIRONMENT}missing/*",
        "share",
        "responses without a verdict in an environment of a mixture",
    ),
    _rollout(
        f"{ENVIRONMENT}groups/*", "groups", "groups of an environment of a mixture decided on"
    ),
    _rollout(
        f"{ENVIRONMENT}groups_accepted/*", "groups", "groups of an environment that are trained on"
    ),
    _rollout(
        f"{REWARD_METRICS}*",
        "as named",
        "mean of each further figure that a scorer gives, by its name in place of *",
    ),
    # What dynamic sampling decided
    _rollout("groups_generated", "groups", "groups sampled to their end"),
    _rollout("groups_accepted", "groups", "informative groups trained on"),
    _rollout("groups_all_correct", "groups", "dropped: every response correct"),
    _rollout("groups_all_wrong", "groups", "dropped: every response wrong"),
    _rollout("groups_no_signal", "groups", "dropped: graded rewards all equal"),
    _rollout("groups_missing", "groups", "dropped: fewer than two verdicts"),
    _rollout("groups_prompt_too_long", "groups", "dropped: prompt over the limit"),
    _rollout("groups_prompt_lost", "groups", "dropped: the environment gave no prompt"),
    _rollout(
        "groups_skipped",
        "groups",
        "not sampled: no signal is expected of the prompt (dynamic_sampling.prompt_memory)",
    ),
    _rollout(
        "groups_surplus",
        "groups",
        "sampled, but the batch was full without them; the prompts come again",
    ),
    _rollout(
        "groups_given_up",
        "groups",
        "still being sampled when the batch was full; the prompts come again",
    ),
    _rollout(
        "groups_expired",
        "groups",
        "too old before a batch had a place for them (rollout.max_staleness); sampled again",
    ),
    _rollout("groups_reused", "groups", "of earlier steps (dynamic_sampling.on_shortfall=reuse)"),
    _rollout(
        "staleness_mean",
        "updates",
        "how many updates before the weights that are trained the tokens of the batch were sampled",
    ),
    _rollout("staleness_max", "updates", "the same of the oldest token"),
    _rollout(
        "tokens_per_accepted_group",
        "tokens",
        "sampled tokens of all groups that were generated, over the groups trained on",
    ),
    _rollout(
        "acceptance_rate", "share", "informative groups over those that the batch was chosen from"
    ),
    _rollout(
        "sampling_rounds",
        "rounds",
        "groups asked for, over the most that are under way at a time (max_oversampling batches)",
    ),
    # Time
    _rollout(ROLLOUT_TOKENS_PER_SECOND, "tokens/s", "sampled tokens over the time of sampling"),
    _rollout("generation_seconds", "s", "time in the engines, summed over EnvRunners"),
    _rollout("scoring_seconds", "s", "time in environments, summed over EnvRunners"),
    _rollout(
        "engine_idle_seconds",
        "s",
        "time of sampling in which engines computed nothing, summed over EnvRunners",
    ),
    # Loss and policy
    _update("policy_loss", "1", "mean policy loss of the mini-batches"),
    _update(
        "total_loss", "1", "mean of all that is minimized: with divergence, entropy and values"
    ),
    _update(ENTROPY, "nats", "mean entropy of the policy at response tokens"),
    _update("mean_token_probability", "probability", "mean probability of the sampled tokens"),
    _update("clip_fraction_low", "share", "tokens with negative advantage under 1 - epsilon_low"),
    _update("clip_fraction_high", "share", "tokens with positive advantage over 1 + epsilon_high"),
    _update(f"{OWN_FIGURES}*", "1", "mean of each figure of an objective of your own, by its name"),
    _update("ratio_mean", "1", "mean importance ratio"),
    _update("ratio_max", "1", "largest importance ratio"),
    # Optimizer steps
    _update("gradient_norm", "1", "mean global gradient norm before clipping"),
    _update("gradient_norm_max", "1", "largest global gradient norm before clipping"),
    _update("gradient_updates", "steps", "optimizer steps taken"),
    _update(NUM_GRADIENT_UPDATES_LIFETIME, "steps", "optimizer steps taken", reduction=RUN),
    _update("skipped_updates", "steps", "optimizer steps left out: gradient not finite"),
    _update(SKIPPED_IN_A_ROW, "steps", "steps left out since the last one that was taken"),
    # Sampler and trainer
    _update("sampler_logprob_gap_mean", "nats", "mean |log-prob of trainer - log-prob of sampler|"),
    _update("sampler_logprob_gap_max", "nats", "largest such gap"),
    # Tokens that are trained on
    _update("trained_tokens", "tokens", "response tokens with loss"),
    _update("kl", "nats", "mean estimate per token of the KL divergence to the reference"),
    _update("trained_token_fraction", "share", "tokens that masks left in the loss"),
    _update("importance_capped_fraction", "share", "tokens whose importance weight hit the cap"),
    _update(
        "masked_response_fraction", "share", "responses masked: trainer and sampler too far apart"
    ),
    _update("masked_token_fraction", "share", "tokens masked: trainer and sampler too far apart"),
    # The critic
    _update("value_loss", "1", "mean value loss of the mini-batches, before its coefficient"),
    _update("value_clip_fraction", "share", "tokens whose value loss is clipped"),
    _update("explained_variance", "share", "variance of the returns that the values explain"),
    # Wall-clock time
    _seconds("sampling", "sampling and scoring, until the batch is full"),
    _seconds("update", "the update"),
    _seconds("weight_sync", "giving the engines the new weights"),
    _seconds("evaluation", "evaluation; 0 where there was none"),
)


def share(part: float, whole: float) -> float:
    """Part over whole; 0 where the whole is 0."""
    return part / whole if whole else 0.0
