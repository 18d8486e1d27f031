"""Accuracy against the number of samples: what more computation at test time buys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_dapo.evaluation.figures import DataSetMetrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3
# Okabe and Ito's colors, which color-blind readers can tell apart; lines differ in their dashes
# too.
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


def samples_picture(found: Mapping[str, DataSetMetrics], path: Path) -> Path:
    """Draws pass@k, maj@k and avg@k with their 95 % intervals, one panel for each data set.

    Args:
        found: By data set.
        path: Of the PNG.

    Returns:
        `path`.
    """
    # Drawn without pyplot, whose figures are shared by the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(found))
    rows = -(-len(found) // columns)
    picture = Figure(figsize=(5.6 * columns, 4.2 * rows + 0.5), dpi=110, layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.subplots(rows, columns, squeeze=False).flatten()
    for ax, (name, figures) in zip(axes, found.items(), strict=False):
        _draw(ax, figures)
        ax.set_title(f"{name} ({figures.num_problems} problems)", loc="left", fontsize=11)
    for ax in axes[len(found) :]:
        ax.remove()
    lines = {line.get_label(): line for ax in axes[: len(found)] for line in ax.lines}
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


def _draw(ax: Axes, figures: DataSetMetrics) -> None:
    for measure, (color, dashes, marker) in _STYLES.items():
        if measure in figures.curves:
            curve = figures.curves[measure]
            ax.fill_between(
                figures.counts, curve.low, curve.high, color=color, alpha=0.15, linewidth=0
            )
            ax.plot(
                figures.counts,
                curve.value,
                dashes,
                color=color,
                marker=marker,
                markersize=4,
                linewidth=1.6,
                label=_LABELS[measure],
            )
    if not figures.curves:
        ax.text(
            0.5, 0.5, "graded only: no accuracy", transform=ax.transAxes, ha="center", color="0.5"
        )
    ax.set_xscale("log", base=2)
    ax.set_xticks(figures.counts, [str(count) for count in figures.counts])
    ax.minorticks_off()
    ax.set_xlim(figures.counts[0] / 1.2, figures.counts[-1] * 1.2)
    ax.set_ylim(0, None)
    ax.grid(color="0.9")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("samples per problem, k")
    ax.set_ylabel("share of problems")
