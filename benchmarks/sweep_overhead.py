"""Nine trials through Tune against the same nine runs alone: what a sweep costs beside training.

Our side: `rllib-dapo train epsilon_grid`, timed from the start of its process to its end, with Ray,
actors, checkpoints and result files. The other side: for each point of the grid a process that
builds the algorithm, trains it for as long, saves it and ends, without Tune. Both find models and
compiled code in warm caches.

Each run alone pays for the start of an engine, and the whole sweep needs only one. So the result
also has the sweep with an engine for each trial, which leaves what Tune itself costs, and compares
the first sweep with the time of its iterations alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import Side, report, timed
from ray.tune.search.variant_generator import generate_variants

from rllib_dapo.models import resolve_model
from rllib_dapo.run.run_settings import read_settings

PRESET = Path(__file__).resolve().parents[1] / "tune_configs" / "epsilon_grid.yaml"
ITERATIONS, TARGET = 10, round(1 / 1.15, 3)
OVERRIDES = (
    f"stop.training_iteration={ITERATIONS}",
    f"evaluation.evaluation_interval={ITERATIONS}",
)
ALONE = """
import json, sys, tempfile
import ray
from pathlib import Path
from rllib_dapo.run.run_settings import read_settings

preset, *overrides = sys.argv[1:]
run = read_settings(Path(preset), overrides)
ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False)
algo = run.config.build_algo()
for _ in range(int(run.stop["training_iteration"])):
    algo.train()
with tempfile.TemporaryDirectory() as folder:
    algo.save_to_path(folder)
algo.stop()
ray.shutdown()
"""
SWEEP = "from rllib_dapo.cli import main; main()"


def python(script: str, *arguments: str) -> float:
    """Runs a Python process, and returns the seconds from its start to its end."""
    command = [sys.executable, "-c", script, *arguments]
    seconds, done = timed(
        lambda: subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-4000:])
    return seconds


def points() -> list[tuple[str, ...]]:
    """The points of the grid, each as the overrides of a separate run."""
    config = read_settings(PRESET, OVERRIDES).config.to_dict()
    return [
        tuple(f"training.{name}={spec['config'][name]}" for name in ("epsilon_low", "epsilon_high"))
        for _, spec in generate_variants({"config": config})
    ]


def iteration_seconds(folder: Path) -> float:
    """The time of the trials' iterations, without what was between them."""
    files = folder.glob("*/trial_*/result.json")
    return sum(json.loads(file.read_text().splitlines()[-1])["time_total_s"] for file in files)


def main() -> None:
    """Runs the sweep, then each of its runs alone, after a warm-up run that does not count."""
    resolve_model("tiny")
    grid = points()
    settings = [word for override in OVERRIDES for word in ("--set", override)]

    python(ALONE, str(PRESET), *OVERRIDES, *grid[0])

    with tempfile.TemporaryDirectory() as folder:
        sweep = python(SWEEP, "train", str(PRESET), "--storage", folder, *settings)
        training = iteration_seconds(Path(folder))
    print(f"sweep of {len(grid)} trials: {sweep:.1f} s", flush=True)

    settings += ["--set", "tune.reuse_actors=false"]
    with tempfile.TemporaryDirectory() as folder:
        apart = python(SWEEP, "train", str(PRESET), "--storage", folder, *settings)
    print(f"with an engine for each: {apart:.1f} s", flush=True)

    alone = []
    for number, point in enumerate(grid, 1):
        alone.append(python(ALONE, str(PRESET), *OVERRIDES, *point))
        print(f"run {number} of {len(grid)}, {' '.join(point)}: {alone[-1]:.1f} s", flush=True)
    report(
        "sweep_overhead",
        ours=Side(label="nine trials through Tune", unit="s", values=[sweep]),
        other=Side(label="the same nine runs alone", unit="s", values=[sum(alone)]),
        target=TARGET,
        higher_is_better=False,
        iterations=ITERATIONS,
        runs_alone=[round(seconds, 1) for seconds in alone],
        iterations_of_the_sweep_seconds=round(training, 1),
        sweep_over_its_iterations=round(sweep / training, 3),
        an_engine_for_each_trial_seconds=round(apart, 1),
        an_engine_for_each_trial_ratio=round(sum(alone) / apart, 3),
    )


if __name__ == "__main__":
    main()
