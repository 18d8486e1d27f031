"""The curves of one trial as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rllib_dapo.reporting.report_panels import (
    ITERATION,
    PICTURE_PANELS,
    ReportPanel,
    evaluation_curve,
)

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

# Okabe and Ito's colors, which color-blind readers can tell apart. Lines differ in their dashes
# too.
_BLUE, _ORANGE = "#0072B2", "#D55E00"
_STYLES = ((_BLUE, "-"), (_ORANGE, "--"))


def curves_picture(frame: pandas.DataFrame, path: Path) -> Path:
    """Draws what the paper watches: accuracy, entropy, length, clip fractions, accepted groups.

    Args:
        frame: A trial's `metrics_dataframe`, with one row per iteration.
        path: Path of the PNG to write.

    Returns:
        `path`.
    """
    # pyplot is not used: its figures are shared by the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).flatten()

    for ax, panel in zip(axes, PICTURE_PANELS, strict=False):
        _draw_panel(ax, panel, frame)
    _draw_evaluation(axes[0], frame)
    for ax in axes[: len(PICTURE_PANELS)]:
        _finish(ax, iterations=int(frame[ITERATION].max()))
    axes[len(PICTURE_PANELS)].remove()  # five panels in a grid of six

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _draw_panel(ax: Axes, panel: ReportPanel, frame: pandas.DataFrame) -> None:
    ax.set_title(panel.title, loc="left", fontsize=11)
    ax.set_ylabel(panel.unit)

    for curve, (color, dashes) in zip(panel.curves, _STYLES, strict=False):
        values = curve.values(frame)
        if values is None:
            continue
        ax.plot(
            values.index,
            values,
            dashes,
            color=color,
            label=curve.label,
            linewidth=1.6,
            marker="o" if len(values) == 1 else None,  # a line of one point would not be seen
        )

    ax.set_ylim(0, 1.02 if panel.is_share else None)


def _draw_evaluation(ax: Axes, frame: pandas.DataFrame) -> None:
    """Adds the points of avg@k; the evaluation before training is at iteration 0."""
    measured = evaluation_curve(frame)
    if measured is None:
        return
    x, y = zip(*measured.points, strict=True)
    label = f"evaluation, {measured.name}"
    ax.plot(x, y, "--s", color=_ORANGE, label=label, markersize=5, linewidth=1.2)


def _finish(ax: Axes, *, iterations: int) -> None:
    """Sets what depends on all that was drawn: axes, legend, or a note that nothing was."""
    ax.grid(color="0.9")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlim(-0.02 * max(2, iterations), 1.02 * max(2, iterations))
    ax.set_xlabel("training iteration")

    if ax.get_legend_handles_labels()[1]:
        # Beside the title, where no curve runs.
        ax.legend(
            frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1
        )
    if not ax.lines:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color="0.5")
