"""What the Grafana dashboard shows: its rows, their panels, and the gauges on each panel."""

from __future__ import annotations

from typing import NamedTuple


class Panel(NamedTuple):
    """One chart.

    Attributes:
        title: Heading of the chart.
        unit: Grafana's id for the unit of the vertical axis.
        gauges: Names of gauges, as in `gauges.GAUGES`.
        stacked: Whether the curves are parts of a whole, drawn on top of each other.
    """

    title: str
    unit: str
    gauges: tuple[str, ...]
    stacked: bool = False


class Row(NamedTuple):
    """Panels under one heading.

    Attributes:
        title: The heading.
        panels: The panels, from left to right and top to bottom.
    """

    title: str
    panels: tuple[Panel, ...]


class NodePanel(NamedTuple):
    """A chart of one of Ray's own gauges, which describe machines, not trials.

    Attributes:
        title: Heading of the chart.
        unit: Grafana's id for the unit of the vertical axis.
        gauge: Name of the gauge in Prometheus.
        meaning: What it measures, in one line.
    """

    title: str
    unit: str
    gauge: str
    meaning: str


SHARE, NUMBER, SECONDS, BYTES, PERCENT = "percentunit", "short", "s", "bytes", "percent"

ROWS: tuple[Row, ...] = (
    Row(
        "Learning",
        (
            Panel("Accuracy", SHARE, ("accuracy", "completed_and_correct")),
            Panel(
                "Evaluation",
                SHARE,
                (
                    "evaluation_avg_at_k",
                    "evaluation_completed_and_correct",
                    "evaluation_pass_at_k",
                    "evaluation_maj_at_k",
                ),
            ),
            Panel(
                "Reward",
                NUMBER,
                (
                    "episode_return_mean",
                    "episode_return_min",
                    "episode_return_max",
                    "shaped_reward_mean",
                ),
            ),
            Panel("Parts of the reward", NUMBER, ("reward_component", "overlong_penalty_mean")),
            Panel(
                "Accuracy by environment", SHARE, ("environment_accuracy", "environment_missing")
            ),
            Panel("Reward by environment", NUMBER, ("environment_reward",)),
            Panel("Response length by environment", NUMBER, ("environment_response_length",)),
            Panel(
                "Groups by environment",
                NUMBER,
                ("environment_groups", "environment_groups_accepted"),
            ),
            Panel("Further figures of scorers", NUMBER, ("reward_metric",)),
            Panel("Entropy", NUMBER, ("entropy",)),
            Panel("Probability of the sampled tokens", SHARE, ("mean_token_probability",)),
            Panel(
                "Response length",
                NUMBER,
                (
                    "response_length_mean",
                    "response_length_max",
                    "evaluation_response_length_mean",
                    "overlong_buffer_tokens",
                ),
            ),
            Panel(
                "Responses truncated or without a verdict",
                SHARE,
                ("truncated_fraction", "missing_reward_fraction"),
            ),
            Panel(
                "Missing verdicts by cause",
                NUMBER,
                (
                    "missing_timeout",
                    "missing_crash",
                    "missing_too_long",
                    "missing_rate_limited",
                    "missing_unreachable",
                    "missing_unreadable",
                    "missing_not_seeded",
                    "missing_other",
                ),
                stacked=True,
            ),
            Panel("Turns", NUMBER, ("episode_len_mean", "episode_len_min", "episode_len_max")),
        ),
    ),
    Row(
        "Dynamic sampling",
        (
            Panel("Acceptance rate", SHARE, ("acceptance_rate",)),
            Panel(
                "Outcomes of groups",
                NUMBER,
                (
                    "groups_accepted",
                    "groups_surplus",
                    "groups_given_up",
                    "groups_expired",
                    "groups_reused",
                    "groups_all_correct",
                    "groups_all_wrong",
                    "groups_no_signal",
                    "groups_missing",
                    "groups_prompt_too_long",
                    "groups_prompt_lost",
                    "groups_skipped",
                ),
                stacked=True,
            ),
            Panel("Groups generated", NUMBER, ("groups_generated",)),
            Panel("Staleness", NUMBER, ("staleness_mean", "staleness_max")),
            Panel("Tokens per accepted group", NUMBER, ("tokens_per_accepted_group",)),
            Panel("Sampling rounds", NUMBER, ("sampling_rounds",)),
        ),
    ),
    Row(
        "Objective",
        (
            Panel("Loss", NUMBER, ("policy_loss", "total_loss")),
            Panel("Clipped tokens", SHARE, ("clip_fraction_low", "clip_fraction_high")),
            Panel("Clip range", NUMBER, ("epsilon_low", "epsilon_high")),
            Panel("Importance ratio", NUMBER, ("ratio_mean", "ratio_max")),
            Panel("Gradient norm", NUMBER, ("gradient_norm", "gradient_norm_max")),
            Panel("Learning rate", NUMBER, ("learning_rate",)),
            Panel(
                "Optimizer steps",
                NUMBER,
                (
                    "gradient_updates",
                    "skipped_updates",
                    "skipped_updates_in_a_row",
                    "num_gradient_updates_lifetime",
                ),
            ),
            Panel(
                "Gap between sampler and trainer",
                NUMBER,
                ("sampler_logprob_gap_mean", "sampler_logprob_gap_max"),
            ),
            Panel("KL divergence from the reference", NUMBER, ("kl",)),
            Panel("Figures of an objective of your own", NUMBER, ("objective_figure",)),
            Panel("Tokens trained on", NUMBER, ("trained_tokens",)),
            Panel(
                "Tokens left out or capped",
                SHARE,
                (
                    "trained_token_fraction",
                    "importance_capped_fraction",
                    "masked_response_fraction",
                    "masked_token_fraction",
                ),
            ),
            Panel("Value loss", NUMBER, ("value_loss",)),
            Panel("Value model", SHARE, ("explained_variance", "value_clip_fraction")),
        ),
    ),
    Row(
        "System",
        (
            Panel("Iterations", NUMBER, ("training_iteration",)),
            Panel(
                "Time of an iteration by part",
                SECONDS,
                (
                    "sampling_seconds",
                    "update_seconds",
                    "weight_sync_seconds",
                    "evaluation_seconds",
                ),
                stacked=True,
            ),
            Panel("Whole iteration", SECONDS, ("iteration_seconds",)),
            Panel(
                "Engines and environments",
                SECONDS,
                ("generation_seconds", "scoring_seconds", "engine_idle_seconds"),
            ),
            Panel("Tokens sampled per second", NUMBER, ("rollout_tokens_per_second",)),
            Panel("Responses sampled so far", NUMBER, ("responses_lifetime",)),
        ),
    ),
)

NODE_PANELS: tuple[NodePanel, ...] = (
    NodePanel(
        "CPU of each machine",
        PERCENT,
        "ray_node_cpu_utilization",
        "Ray's own gauge: CPU time in use, in percent of all cores",
    ),
    NodePanel(
        "Memory of each machine", BYTES, "ray_node_mem_used", "Ray's own gauge: memory in use"
    ),
)
