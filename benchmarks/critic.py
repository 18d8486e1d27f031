"""PPO at the paper's learning rate, with the critic's own rate and without: does the critic learn?

Both sides train the demo's model with `preset: ppo` and `training.lr: 1e-6`, on sums of numbers up
to 99, of which it has learnt a quarter: so most rewards are -1, and some prompts are hopeless. Our
side has the preset's `critic.lr`; on the other the value head has the policy's rate. What counts is
the value loss over the last ten training steps. Beside it the result has the curves of both, and of
the share of the returns' variance that the values explain.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import Side, report

from rllib_dapo.models import resolve_model

STEPS, LAST, TARGET = 40, 10, 1.2
RUN_FILE = f"""
base: tiny_arithmetic
preset: ppo
environment: {{env_config: {{max_operand: 99}}}}
training: {{lr: 1.0e-6}}
evaluation: {{evaluation_interval: 0, evaluate_before_training: false}}
stop: {{training_iteration: {STEPS}}}
"""
FIGURES = ("value_loss", "explained_variance")
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "critic_curves.png"
STYLES = (("#0072B2", "-"), ("#D55E00", "--"))


def curves(*overrides: str) -> dict[str, list[float]]:
    """The figures of each training step of a run from the command line."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "critic.yaml"
        file.write_text(RUN_FILE)
        settings = [word for override in overrides for word in ("--set", override)]
        command = [sys.executable, "-m", "rllib_dapo", "train", str(file), "--storage", name]
        done = subprocess.run(
            [*command, *settings], env=os.environ, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-4000:])

        (result,) = folder.glob("*/trial_*/result.json")
        steps = [json.loads(line) for line in result.read_text().splitlines()]

    found = {
        name: [round(step["learners"]["default_policy"][name], 4) for step in steps]
        for name in FIGURES
    }
    for name, values in found.items():
        shown = ", ".join(f"{value:.3f}" for value in values[::5])
        print(f"{' '.join(overrides) or 'preset'}: {name} {shown}", flush=True)
    return found


def picture(sides: dict[str, dict[str, list[float]]]) -> None:
    """Draws the curves for docs/algorithm.md."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for ax, name in zip(figure.subplots(1, 2), FIGURES, strict=True):
        for (label, curve), (color, dashes) in zip(sides.items(), STYLES, strict=True):
            ax.plot(range(1, STEPS + 1), curve[name], dashes, color=color, label=label)
        ax.set_title(name, loc="left", fontsize=11)
        ax.set_xlabel("training step")
        ax.grid(color="0.9")
        ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="lower left")  # where there is room, for both
    figure.savefig(PICTURE)


def main() -> None:
    """Trains both, and compares the ends of their curves."""
    resolve_model("tiny")
    ours, other = curves(), curves("critic.lr=null")
    picture({"critic.lr of the preset": ours, "critic.lr: null": other})
    report(
        "critic",
        ours=Side(label="critic.lr of the preset", unit="", values=ours["value_loss"][-LAST:]),
        other=Side(label="critic.lr: null", unit="", values=other["value_loss"][-LAST:]),
        target=TARGET,
        higher_is_better=False,
        training_steps=STEPS,
        explained_variance_at_the_end={
            label: round(statistics.fmean(side["explained_variance"][-LAST:]), 3)
            for label, side in (("ours", ours), ("other", other))
        },
        curves={"ours": ours, "other": other},
    )


if __name__ == "__main__":
    main()
