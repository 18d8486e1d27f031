"""Nine trials through Tune against the same nine runs alone: what a sweep costs beside training.

Our side: `rllib-dapo train epsilon_grid`, timed from the start of its process to its end, with Ray,
actors, checkpoints and result files. The other side: for each point of the grid a process that
builds the algorithm, trains it for as long, saves it and ends, without Tune. Both find models and
compiled code in warm caches.

Each run alone pays for the start of an engine, and the whole sweep needs only one. So the result
also has the sweep with an engine for each trial, which leaves what Tune itself costs, and compares
the first sweep with the time of its iterations alone.

The third side is nine adapters (LoRA) at the same time on one engine, `epsilon_grid_lora`, against
the same nine in turn: when all have reported once, when all have ended, and whether the first
iteration of each is the same. `--at-once` measures this alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
LORA = PRESET.with_name("epsilon_grid_lora.yaml")
# The nine adapters one after the other, each taking over the engine of the one before.
IN_TURN = (
    "rollout.shared_engine=false",
    "tune.max_concurrent_trials=1",
    "resources.num_cpus_for_main_process=1",
    "language_model.num_threads=auto",  # it has both cores to itself
)
# Of the time in turn: until all nine have reported once, and until all have ended.
FIRST_REPORTS_LIMIT, SWEEP_LIMIT = 0.25, 0.8
NUMBERS_LIMIT = 1e-5
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


@dataclass(frozen=True, kw_only=True)
class LoraSweep:
    """A sweep over nine adapters.

    Attributes:
        seconds: From its start to its end.
        all_reported: From its start until all nine had reported once.
        first: By clip bounds, what each trial reported first.
    """

    seconds: float
    all_reported: float
    first: Mapping[tuple[float, float], Mapping[str, Any]]


def lora_sweep(*overrides: str) -> LoraSweep:
    """Runs the nine adapters, for as many iterations as their preset has."""
    settings = [word for one in overrides for word in ("--set", one)]
    with tempfile.TemporaryDirectory() as folder:
        started = time.time()
        seconds = python(SWEEP, "train", str(LORA), "--storage", folder, *settings)
        files = Path(folder).glob("*/trial_*/result.json")
        first = [json.loads(file.read_text().splitlines()[0]) for file in files]
    return LoraSweep(
        seconds=seconds,
        all_reported=max(result["timestamp"] for result in first) - started,
        first={
            (result["config"]["epsilon_low"], result["config"]["epsilon_high"]): result
            for result in first
        },
    )


def numbers(result: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """What a result says of responses and updates, without what it says of time."""
    if isinstance(result, Mapping):
        for key, value in result.items():
            if not any(word in key for word in ("second", "time", "throughput", "per_s")):
                yield from numbers(value, f"{name}/{key}")
    elif isinstance(result, int | float):
        yield name, float(result)


def largest_difference(one: LoraSweep, other: LoraSweep) -> float:
    """The largest relative difference between what the same trials reported first."""
    largest = 0.0
    for point, result in one.first.items():
        pairs = [
            {name: dict(numbers(r[name])) for name in ("env_runners", "learners")}
            for r in (result, other.first[point])
        ]
        for name in ("env_runners", "learners"):
            here, there = pairs[0][name], pairs[1][name]
            for key in here.keys() & there.keys():
                size = max(abs(here[key]), abs(there[key]), 1e-3)
                largest = max(largest, abs(here[key] - there[key]) / size)
    return largest


def compare_at_once() -> dict[str, tuple[float, float]]:
    """Nine adapters at the same time and in turn: figures, and the limit of each."""
    at_once, in_turn = lora_sweep(), lora_sweep(*IN_TURN)
    for label, sweep in (("at the same time", at_once), ("in turn", in_turn)):
        print(
            f"nine adapters {label}: all have reported after {sweep.all_reported:.1f} s, and ended "
            f"after {sweep.seconds:.1f} s",
            flush=True,
        )
    return {
        "nine at once, all have reported once, of the time in turn": (
            at_once.all_reported / in_turn.all_reported,
            FIRST_REPORTS_LIMIT,
        ),
        "nine at once, all have ended, of the time in turn": (
            at_once.seconds / in_turn.seconds,
            SWEEP_LIMIT,
        ),
        "first iterations at once and in turn, largest relative difference": (
            largest_difference(at_once, in_turn),
            NUMBERS_LIMIT,
        ),
    }


def main() -> None:
    """Runs the sweep, then each of its runs alone, after a warm-up run that does not count."""
    resolve_model("tiny")
    at_once = compare_at_once()
    if "--at-once" in sys.argv[1:]:
        for label, (value, limit) in at_once.items():
            print(f"{label}: {value:.3g} (at most {limit:g})")
        sys.exit(0 if all(value <= limit for value, limit in at_once.values()) else 1)

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
        also=at_once,
        iterations=ITERATIONS,
        runs_alone=[round(seconds, 1) for seconds in alone],
        iterations_of_the_sweep_seconds=round(training, 1),
        sweep_over_its_iterations=round(sweep / training, 3),
        an_engine_for_each_trial_seconds=round(apart, 1),
        an_engine_for_each_trial_ratio=round(sum(alone) / apart, 3),
    )


if __name__ == "__main__":
    main()
