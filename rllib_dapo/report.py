"""Pictures of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rllib_dapo import metrics

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

# Okabe and Ito's colors, which color-blind readers can tell apart; lines differ in their dashes too.
_BLUE, _ORANGE = "#0072B2", "#D55E00"
_STYLES = ((_BLUE, "-"), (_ORANGE, "--"))
_X = "training_iteration"
_ENV, _LEARNER = "env_runners", "learners/default_policy"


class Curve(NamedTuple):
    """A column, and what the legend calls it (nothing: the panel's title says it)."""

    column: str
    label: str = ""


class Panel(NamedTuple):
    """One picture of the five: its title, the unit, and what is drawn."""

    title: str
    unit: str
    curves: Sequence[Curve]
    is_share: bool = False


PANELS = (
    Panel("Accuracy", "share correct", [Curve(f"{_ENV}/{metrics.ACCURACY}", "training")], is_share=True),
    Panel("Entropy of the policy", "nats per token", [Curve(f"{_LEARNER}/{metrics.ENTROPY}")]),
    Panel(
        "Response length",
        "tokens",
        [Curve(f"{_ENV}/{metrics.RESPONSE_LENGTH_MEAN}", "mean"), Curve(f"{_ENV}/response_length_max", "longest")],
    ),
    Panel(
        "Clipped tokens",
        "share of tokens",
        [Curve(f"{_LEARNER}/clip_fraction_low", "low"), Curve(f"{_LEARNER}/clip_fraction_high", "high")],
    ),
    Panel("Groups with a signal", "share accepted", [Curve(f"{_ENV}/acceptance_rate")], is_share=True),
)


def curves_picture(frame: pandas.DataFrame, path: Path) -> Path:
    """Draws the curves the paper watches: accuracy, entropy, response length, clip fractions, accepted groups.

    Args:
        frame: A trial's `metrics_dataframe`, one row an iteration.
        path: Of the PNG.

    Returns:
        `path`.
    """
    # Drawn without pyplot, whose figures are shared by the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).flatten()
    for ax, panel in zip(axes, PANELS, strict=False):
        _draw(ax, panel, frame)
    _draw_evaluation(axes[0], frame)
    for ax in axes[: len(PANELS)]:
        _finish(ax, iterations=int(frame[_X].max()))
    axes[len(PANELS)].remove()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _draw(ax: Axes, panel: Panel, frame: pandas.DataFrame) -> None:
    ax.set_title(panel.title, loc="left", fontsize=11)
    ax.set_ylabel(panel.unit)
    for (column, label), (color, dashes) in zip(panel.curves, _STYLES, strict=False):
        if column in frame:
            known = frame[[_X, column]].dropna()
            marker = "o" if len(known) == 1 else None
            ax.plot(known[_X], known[column], dashes, color=color, label=label, linewidth=1.6, marker=marker)
    ax.set_ylim(0, 1.02 if panel.is_share else None)


def _finish(ax: Axes, *, iterations: int) -> None:
    ax.grid(color="0.9")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlim(-0.02 * max(2, iterations), 1.02 * max(2, iterations))
    ax.set_xlabel("training iteration")
    if ax.get_legend_handles_labels()[1]:
        # Beside the title: no curve runs there.
        ax.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    if not ax.lines:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color="0.5")


def _draw_evaluation(ax: Axes, frame: pandas.DataFrame) -> None:
    """Points of avg@k, that before training at iteration 0."""
    points: list[tuple[float, float]] = []
    names = []
    for column in frame.columns:
        source, _, name = column.rpartition("/env_runners/")
        if not name.startswith("avg@") or source not in ("evaluation", "evaluation_at_start"):
            continue
        known = frame[[_X, column]].dropna()
        if source == "evaluation_at_start":
            points += [(0, value) for value in known[column][:1]]
        else:
            points += list(known.itertuples(index=False, name=None))
        names.append(name)
    if points:
        x, y = zip(*sorted(points), strict=True)
        ax.plot(x, y, "--s", color=_ORANGE, label=f"evaluation, {names[0]}", markersize=5, linewidth=1.2)
