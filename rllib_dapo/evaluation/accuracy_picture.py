"""The picture of accuracy against the number of samples: what more test-time compute buys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_dapo.evaluation.data_set_metrics import DataSetMetrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3

# Okabe and Ito's colors, which color-blind readers can tell apart. The lines also differ in their
# dashes.
_STYLES = {
    "pass": ("#0072B2", "-", "^"),
    "maj": ("#D55E00", "--", "s"),
    "avg": ("#009E73", ":", "o"),
}
_LABELS = {
    "pass": "pass@k: one of k is right",
    "maj": "maj@k: what most of k say is right",
    "avg": "avg@k: a response is right",
}


def accuracy_picture(metrics: Mapping[str, DataSetMetrics], path: Path) -> Path:
    """Draws pass@k, maj@k and avg@k with their 95 % intervals, one panel for each data set.

    Args:
        metrics: Metrics of each data set, by its name.
        path: Path of the PNG file; its folder is created if absent.

    Returns:
        `path`.
    """
    # Not pyplot, whose figures are shared by the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(metrics))
    rows = -(-len(metrics) // columns)
    picture = Figure(figsize=(5.6 * columns, 4.2 * rows + 0.5), dpi=110, layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.subplots(rows, columns, squeeze=False).flatten()

    for ax, (name, measured) in zip(axes, metrics.items(), strict=False):
        _draw(ax, measured)
        ax.set_title(f"{name} ({measured.num_problems} problems)", loc="left", fontsize=11)
    for ax in axes[len(metrics) :]:
        ax.remove()

    # One legend for all panels: a measure that several of them show is named once.
    lines = {line.get_label(): line for ax in axes[: len(metrics)] for line in ax.lines}
    picture.legend(
        lines.values(),
        lines.keys(),
        frameon=False,
        ncols=3 if columns > 1 else 1,
        loc="outside lower center",
    )

    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path)
    return path


def _draw(ax: Axes, metrics: DataSetMetrics) -> None:
    for measure, (color, dashes, marker) in _STYLES.items():
        if measure in metrics.curves:
            curve = metrics.curves[measure]
            ax.fill_between(
                metrics.counts, curve.low, curve.high, color=color, alpha=0.15, linewidth=0
            )
            ax.plot(
                metrics.counts,
                curve.value,
                dashes,
                color=color,
                marker=marker,
                markersize=4,
                linewidth=1.6,
                label=_LABELS[measure],
            )

    if not metrics.curves:
        ax.text(
            0.5, 0.5, "graded only: no accuracy", transform=ax.transAxes, ha="center", color="0.5"
        )

    ax.set_xscale("log", base=2)
    ax.set_xticks(metrics.counts, [str(count) for count in metrics.counts])
    ax.minorticks_off()
    ax.set_xlim(metrics.counts[0] / 1.2, metrics.counts[-1] * 1.2)
    ax.set_ylim(0, None)
    ax.grid(color="0.9")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("samples per problem, k")
    ax.set_ylabel("share of problems")
