"""What is drawn of a run: the curves that the paper watches, and further ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ray.rllib.utils.metrics import EPISODE_RETURN_MEAN

from rllib_dapo.metrics import metric_table as metrics

if TYPE_CHECKING:
    import pandas

ITERATION = "training_iteration"
ENV, LEARNER = "env_runners", "learners/default_policy"


class PlottedCurve(NamedTuple):
    """One curve of a panel.

    Attributes:
        column: Column of a trial's results that is drawn.
        label: Name in the legend; empty where the panel's title says it.
        over: Column that `column` is divided by; empty for none.
    """

    column: str
    label: str = ""
    over: str = ""

    def values(self, frame: pandas.DataFrame) -> pandas.Series | None:
        """Reads the curve from a trial's results.

        Args:
            frame: A trial's results, one row per iteration.

        Returns:
            The measured values by iteration; None if nothing was measured.
        """
        if self.column not in frame or (self.over and self.over not in frame):
            return None
        series = frame[self.column] / frame[self.over] if self.over else frame[self.column]
        known = series.set_axis(frame[ITERATION]).dropna()
        return None if known.empty else known.astype(float)


class ReportPanel(NamedTuple):
    """One chart of a report.

    Attributes:
        title: Heading of the chart.
        unit: Unit of its vertical axis.
        curves: What is drawn.
        is_share: Whether the values are between 0 and 1.
        figure: The paper's figure or section that shows the same; empty for none.
    """

    title: str
    unit: str
    curves: Sequence[PlottedCurve]
    is_share: bool = False
    figure: str = ""


_ACCURACY = ReportPanel(
    "Accuracy",
    "share correct",
    [
        PlottedCurve(f"{ENV}/{metrics.ACCURACY}", "training"),
        PlottedCurve(f"{ENV}/{metrics.COMPLETED_AND_CORRECT}", "training, and ended by itself"),
    ],
    is_share=True,
    figure="Figures 2a, 5a and 6",
)
_ENTROPY = ReportPanel(
    "Entropy of the policy",
    "nats per token",
    [PlottedCurve(f"{LEARNER}/{metrics.ENTROPY}")],
    figure="Figures 2b, 4a, 5b, 7c",
)
_LENGTH = ReportPanel(
    "Response length",
    "tokens",
    [
        PlottedCurve(f"{ENV}/{metrics.RESPONSE_LENGTH_MEAN}", "mean"),
        PlottedCurve(f"{ENV}/response_length_max", "longest"),
    ],
    figure="Figures 4b and 7a",
)
_REWARD = ReportPanel(
    "Reward",
    "reward",
    [
        PlottedCurve(f"{ENV}/{EPISODE_RETURN_MEAN}", "raw"),
        PlottedCurve(f"{ENV}/shaped_reward_mean", "shaped, of accepted"),
    ],
    figure="Figure 7b",
)
_PROBABILITY = ReportPanel(
    "Mean token probability",
    "probability",
    [PlottedCurve(f"{LEARNER}/mean_token_probability")],
    is_share=True,
    figure="Figure 7d",
)
_CLIPPED = ReportPanel(
    "Clipped tokens",
    "share of tokens",
    [
        PlottedCurve(f"{LEARNER}/clip_fraction_low", "low"),
        PlottedCurve(f"{LEARNER}/clip_fraction_high", "high"),
    ],
    figure="Section 3.1",
)
_SIGNAL = ReportPanel(
    "Groups with a signal",
    "share accepted",
    [PlottedCurve(f"{ENV}/acceptance_rate")],
    is_share=True,
    figure="Section 3.2",
)
_ALL_CORRECT = ReportPanel(
    "Prompts solved by every response",
    "share of groups",
    [PlottedCurve(f"{ENV}/groups_all_correct", over=f"{ENV}/groups_generated")],
    is_share=True,
    figure="Figure 3b",
)

# The five panels of the picture, and all panels of the page. The picture has room for one curve of
# training beside avg@k.
PICTURE_PANELS = (
    _ACCURACY._replace(curves=_ACCURACY.curves[:1]),
    _ENTROPY,
    _LENGTH,
    _CLIPPED,
    _SIGNAL,
)
PAPER_PANELS = (
    _ACCURACY,
    _ENTROPY,
    _LENGTH,
    _REWARD,
    _PROBABILITY,
    _CLIPPED,
    _SIGNAL,
    _ALL_CORRECT,
)
FURTHER_PANELS = (
    ReportPanel(
        "Clip ranges",
        "epsilon",
        [
            PlottedCurve("config/epsilon_low", "epsilon_low"),
            PlottedCurve("config/epsilon_high", "epsilon_high"),
        ],
    ),
    ReportPanel("Learning rate", "1", [PlottedCurve(f"{LEARNER}/default_optimizer_learning_rate")]),
    ReportPanel(
        "Responses truncated or without a verdict",
        "share of responses",
        [
            PlottedCurve(f"{ENV}/truncated_fraction", "truncated"),
            PlottedCurve(f"{ENV}/missing_reward_fraction", "no verdict"),
        ],
    ),
    ReportPanel(
        "Gradient norm",
        "1",
        [
            PlottedCurve(f"{LEARNER}/gradient_norm", "mean"),
            PlottedCurve(f"{LEARNER}/gradient_norm_max", "largest"),
        ],
    ),
    ReportPanel(
        "Importance ratio",
        "1",
        [
            PlottedCurve(f"{LEARNER}/ratio_mean", "mean"),
            PlottedCurve(f"{LEARNER}/ratio_max", "largest"),
        ],
    ),
    ReportPanel(
        "Gap between sampler and trainer",
        "nats per token",
        [
            PlottedCurve(f"{LEARNER}/sampler_logprob_gap_mean", "mean"),
            PlottedCurve(f"{LEARNER}/sampler_logprob_gap_max", "largest"),
        ],
    ),
    ReportPanel(
        "KL divergence from the reference", "nats per token", [PlottedCurve(f"{LEARNER}/kl")]
    ),
    ReportPanel(
        "Sampling speed", "tokens/s", [PlottedCurve(f"{ENV}/{metrics.ROLLOUT_TOKENS_PER_SECOND}")]
    ),
    ReportPanel("Rounds of dynamic sampling", "rounds", [PlottedCurve(f"{ENV}/sampling_rounds")]),
)


class EvaluationCurve(NamedTuple):
    """A trial's avg@k over training.

    Attributes:
        name: Name of the metric, such as `avg@8`.
        points: Pairs of iteration and value; the evaluation before training is at iteration 0.
    """

    name: str
    points: list[tuple[int, float]]


def evaluation_curve(frame: pandas.DataFrame) -> EvaluationCurve | None:
    """Reads the evaluations of a trial.

    Args:
        frame: A trial's results, one row per iteration.

    Returns:
        The curve, or None if there was no evaluation.
    """
    points: dict[int, float] = {}
    names = []
    for column in frame.columns:
        source, _, name = column.rpartition("/env_runners/")
        if not name.startswith("avg@") or source not in ("evaluation", "evaluation_at_start"):
            continue

        known = frame[[ITERATION, column]].dropna()
        if source == "evaluation_at_start":  # every later result repeats it
            known = known.head(1).assign(**{ITERATION: 0})

        points |= {
            int(iteration): float(value)
            for iteration, value in known.itertuples(index=False, name=None)
        }
        names += [name] if len(known) else []

    return EvaluationCurve(names[0], sorted(points.items())) if points else None
