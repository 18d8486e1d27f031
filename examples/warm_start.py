"""A warm start, then DAPO: SmolLM2-135M on word problems, with avg@8 before, between and after.

    python examples/warm_start.py mawps.jsonl                     # hours on two cores
    python examples/warm_start.py mawps.jsonl --iterations 2 --problems 16    # does it run at all?

`mawps.jsonl` is in evaluation/data of https://github.com/QwenLM/Qwen2.5-Math. Every step is one
command of docs/warm_start.md. What is done already is not done again, so an interrupted run goes
on. The figures are written to benchmarks/results/warm_start.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

MODEL, PRESET = "smollm2-135m", "smollm2_mawps"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "warm_start.json"
SAMPLES = 8
COMPUTED = ("--set", "language_model.dtype=bfloat16")  # as in the preset; weights stay float32


def rllib_dapo(*words: object) -> None:
    """Runs a command, and ends with it if it fails."""
    command = [sys.executable, "-m", "rllib_dapo", *map(str, words)]
    print(f"\n$ rllib-dapo {' '.join(command[3:])}", flush=True)
    if exit_code := subprocess.run(command, check=False).returncode:
        sys.exit(exit_code)


class Steps:
    """The steps in a folder, each with the seconds that it took; a step that is done is skipped."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "seconds.json"
        self.seconds = json.loads(self._file.read_text()) if self._file.is_file() else {}

    def run(self, name: str, work: Callable[[], None]) -> None:
        """Takes a step, unless it is done already."""
        if name in self.seconds:
            return
        started = time.perf_counter()
        work()
        self.seconds[name] = round(time.perf_counter() - started, 1)
        self._file.write_text(json.dumps(self.seconds, indent=1) + "\n")


def newest_checkpoint(runs: Path) -> Path:
    """The last checkpoint of the run in a folder."""
    return max(runs.glob("*/*/checkpoint_*"), key=lambda path: (path.name, path.stat().st_mtime))


def evaluation(when: str, file: Path) -> dict[str, Any]:
    """avg@8 with its interval, and what it was measured on."""
    figures = json.loads(file.read_text(encoding="utf-8"))
    name = f"avg@{SAMPLES}"
    low, high = figures["intervals"][name]
    counts = {key: figures[key] for key in ("problems", "responses", "missing", "truncated")}
    return {"when": when, name: figures[name], "low": low, "high": high, **counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("outputs") / "warm_start")
    parser.add_argument("--iterations", type=int, default=100, help="of DAPO")
    parser.add_argument("--epochs", type=int, default=2, help="of supervised fine-tuning")
    parser.add_argument("--problems", type=int, default=10_000, help="most that are evaluated on")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()

    folder = given.folder.absolute()
    path = json.dumps(str(given.data.absolute()), ensure_ascii=False)
    data = ("--set", f"environment.env_config.path={path}")
    sampling = ("--k", SAMPLES, "--top-p", 1, "--limit", given.problems)
    steps, runs = Steps(folder), folder / "runs"

    def evaluate(name: str, model: object, *options: object) -> None:
        output = ("--output", folder / name, "--json", folder / f"{name}.json")
        rllib_dapo("evaluate", model, *options, *sampling, *output)

    # Of a model that no run has made, nobody knows the environment; a checkpoint says it.
    task = ("--file", PRESET, *data)
    steps.run("evaluate before", lambda: evaluate("before", MODEL, *task))
    warm = folder / "warm-model"
    learn = ("--like", PRESET, "--model", MODEL, "--epochs", given.epochs, *COMPUTED)
    steps.run("sft", lambda: rllib_dapo("sft", given.data.absolute(), warm, *learn))
    steps.run("evaluate between", lambda: evaluate("between", warm, *task))
    steps.run(
        "train",
        lambda: rllib_dapo(
            *("train", PRESET, "--storage", runs, *data),
            *("--set", f"language_model.name={warm}"),
            *("--set", f"stop.training_iteration={given.iterations}"),
            *(["--resume"] if runs.is_dir() and any(runs.iterdir()) else []),
        ),
    )
    steps.run("evaluate after", lambda: evaluate("after", newest_checkpoint(runs)))

    learnt = json.loads((warm / "rllib_dapo_sft.json").read_text(encoding="utf-8"))
    record = {
        "name": "warm_start",
        "model": MODEL,
        "data": given.data.name,
        "iterations": given.iterations,
        "rows": [
            evaluation(name, folder / f"{name}.json") for name in ("before", "between", "after")
        ],
        "sft": {
            "records": learnt["records"],
            "steps": len(learnt["steps"]),
            "seconds_per_step": learnt["seconds"] / max(1, len(learnt["steps"])),
            "heldout_loss": learnt["heldout_loss"],
        },
        "seconds": steps.seconds,
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "processor": platform.machine(),
            "python": platform.python_version(),
            "torch": version("torch"),
            "gpu": None,
        },
    }
    given.results.parent.mkdir(parents=True, exist_ok=True)
    given.results.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    print()
    for row in record["rows"]:
        figure = f"{row[f'avg@{SAMPLES}']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"
        print(f"{row['when']:8} avg@{SAMPLES} {figure}")
    print(f"figures: {given.results}")


if __name__ == "__main__":
    main()
