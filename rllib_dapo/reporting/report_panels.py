"""What is drawn of a run: the curves that the paper watches, and further ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ray.rllib.utils.metrics import EPISODE_RETURN_MEAN

from rllib_dapo.metrics import metric_table as metrics

if TYPE_CHECKING:
    import pandas

X = "training_iteration"
ENV, LEARNER = "env_runners", "learners/default_policy"


class Curve(NamedTuple):
    """A column, what the legend calls it (nothing: the panel's title says it), and what it is divided by, if so."""

    column: str
    label: str = ""
    over: str = ""

    def values(self, frame: pandas.DataFrame) -> pandas.Series | None:
        """The curve's values by iteration, without those that were not measured; None where there are none at all."""
        if self.column not in frame or (self.over and self.over not in frame):
            return None
        series = frame[self.column] / frame[self.over] if self.over else frame[self.column]
        known = series.set_axis(frame[X]).dropna()
        return None if known.empty else known.astype(float)


class Panel(NamedTuple):
    """One picture: its title, the unit, what is drawn, and the paper's figure that shows the same."""

    title: str
    unit: str
    curves: Sequence[Curve]
    is_share: bool = False
    figure: str = ""


_ACCURACY = Panel(
    "Accuracy",
    "share correct",
    [Curve(f"{ENV}/{metrics.ACCURACY}", "training")],
    is_share=True,
    figure="Figures 2a, 5a and 6",
)
_ENTROPY = Panel(
    "Entropy of the policy",
    "nats per token",
    [Curve(f"{LEARNER}/{metrics.ENTROPY}")],
    figure="Figures 2b, 4a, 5b, 7c",
)
_LENGTH = Panel(
    "Response length",
    "tokens",
    [
        Curve(f"{ENV}/{metrics.RESPONSE_LENGTH_MEAN}", "mean"),
        Curve(f"{ENV}/response_length_max", "longest"),
    ],
    figure="Figures 4b and 7a",
)
_REWARD = Panel(
    "Reward",
    "reward",
    [
        Curve(f"{ENV}/{EPISODE_RETURN_MEAN}", "raw"),
        Curve(f"{ENV}/shaped_reward_mean", "shaped, of accepted"),
    ],
    figure="Figure 7b",
)
_PROBABILITY = Panel(
    "Mean token probability",
    "probability",
    [Curve(f"{LEARNER}/mean_token_probability")],
    is_share=True,
    figure="Figure 7d",
)
_CLIPPED = Panel(
    "Clipped tokens",
    "share of tokens",
    [Curve(f"{LEARNER}/clip_fraction_low", "low"), Curve(f"{LEARNER}/clip_fraction_high", "high")],
    figure="Section 3.1",
)
_SIGNAL = Panel(
    "Groups with a signal",
    "share accepted",
    [Curve(f"{ENV}/acceptance_rate")],
    is_share=True,
    figure="Section 3.2",
)
_ALL_CORRECT = Panel(
    "Prompts solved by every response",
    "share of groups",
    [Curve(f"{ENV}/groups_all_correct", over=f"{ENV}/groups_generated")],
    is_share=True,
    figure="Figure 3b",
)

# The five of the picture, and all of the page.
PICTURE_PANELS = (_ACCURACY, _ENTROPY, _LENGTH, _CLIPPED, _SIGNAL)
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
    Panel(
        "Clip ranges",
        "epsilon",
        [Curve("config/epsilon_low", "epsilon_low"), Curve("config/epsilon_high", "epsilon_high")],
    ),
    Panel("Learning rate", "1", [Curve(f"{LEARNER}/default_optimizer_learning_rate")]),
    Panel(
        "Responses cut or without a verdict",
        "share of responses",
        [
            Curve(f"{ENV}/truncated_fraction", "truncated"),
            Curve(f"{ENV}/missing_reward_fraction", "no verdict"),
        ],
    ),
    Panel(
        "Gradient norm",
        "1",
        [
            Curve(f"{LEARNER}/gradient_norm", "mean"),
            Curve(f"{LEARNER}/gradient_norm_max", "largest"),
        ],
    ),
    Panel(
        "Importance ratio",
        "1",
        [Curve(f"{LEARNER}/ratio_mean", "mean"), Curve(f"{LEARNER}/ratio_max", "largest")],
    ),
    Panel(
        "Sampler against trainer",
        "nats per token",
        [
            Curve(f"{LEARNER}/sampler_logprob_gap_mean", "mean"),
            Curve(f"{LEARNER}/sampler_logprob_gap_max", "largest"),
        ],
    ),
    Panel("KL divergence to the reference", "nats per token", [Curve(f"{LEARNER}/kl")]),
    Panel("Sampling speed", "tokens/s", [Curve(f"{ENV}/{metrics.ROLLOUT_TOKENS_PER_SECOND}")]),
    Panel("Rounds of dynamic sampling", "rounds", [Curve(f"{ENV}/sampling_rounds")]),
)


class Evaluation(NamedTuple):
    """avg@k: its name, and pairs of iteration and value; that before training stands at iteration 0."""

    name: str
    points: list[tuple[int, float]]


def evaluation(frame: pandas.DataFrame) -> Evaluation | None:
    """What a trial's evaluations gave, if there were any."""
    points: dict[int, float] = {}
    names = []
    for column in frame.columns:
        source, _, name = column.rpartition("/env_runners/")
        if not name.startswith("avg@") or source not in ("evaluation", "evaluation_at_start"):
            continue
        known = frame[[X, column]].dropna()
        if source == "evaluation_at_start":
            known = known.head(1).assign(**{X: 0})
        points |= {
            int(iteration): float(value)
            for iteration, value in known.itertuples(index=False, name=None)
        }
        names += [name] if len(known) else []
    return Evaluation(names[0], sorted(points.items())) if points else None
