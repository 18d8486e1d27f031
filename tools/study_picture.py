"""The curves of the study of sample efficiency, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Okabe and Ito's colors, which color-blind readers can tell apart; lines differ in dashes too.
STYLES = {
    "grpo": ("#D55E00", "--"),
    "dapo": ("#0072B2", "-"),
    "ppo": ("#009E73", "-."),
    "grpo_kl": ("#E69F00", ":"),
    "lite_ppo": ("#CC79A7", (0, (5, 1, 1, 1))),
}
PANELS = (
    ("updates", "accuracy", "gradient updates"),
    ("tokens", "accuracy", "sampled tokens"),
    ("seconds", "accuracy", "seconds"),
    ("updates", "entropy", "gradient updates"),
    ("updates", "response_length", "gradient updates"),
    ("updates", "gradient_norm_variance", "gradient updates"),
)
NAMES = {
    "accuracy": "held-out accuracy",
    "entropy": "entropy, nats",
    "response_length": "tokens of a response",
    "gradient_norm_variance": "variance of the gradient's norm",
}


def study_picture(record: Mapping[str, Any], task: str, path: Path) -> None:
    """Draws the methods' curves of a task at the rate that they are compared at.

    Args:
        record: The study's results.
        task: Name of the task.
        path: The SVG to write.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    lr = record["protocol"]["primary_lr"]
    rows = [
        row
        for row in record["cells"]
        if row["task"] == task and row["lr"] == lr and row["arm"] in STYLES
    ]
    # The same file from the same figures, with words that can be found.
    with mpl.rc_context({"svg.hashsalt": "rllib-dapo", "svg.fonttype": "none"}):
        figure = Figure(figsize=(12, 6.4), layout="constrained")
        FigureCanvasSVG(figure)
        for ax, (x, y, label) in zip(figure.subplots(2, 3).flatten(), PANELS, strict=True):
            for row in rows:
                color, dashes = STYLES[row["arm"]]
                title = f"{record['arms'][row['arm']]['title']}, {row['seeds']} seeds"
                places = [(a, b) for a, b in zip(row[x], row[y], strict=True) if b is not None]
                if not places:
                    continue
                ax.plot(*zip(*places, strict=True), linestyle=dashes, color=color, label=title)
                if y == "accuracy" and None not in row["low"]:
                    ax.fill_between(row[x], row["low"], row["high"], color=color, alpha=0.15, lw=0)
            ax.set_title(NAMES[y], loc="left", fontsize=11)
            ax.set_xlabel(label)
            ax.grid(color="0.9")
            ax.spines[["top", "right"]].set_visible(False)
        figure.axes[0].legend(frameon=False, loc="lower right", fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
