"""Whole sweeps from the command line.

One engine serves all trials, a killed sweep goes on, and bounds change on the way.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray._private.utils import get_num_cpus

FILE = """
environment: {env: rllib_dapo/Arithmetic-v0, env_config: {max_operand: 9}}
language_model: {name: MODEL, dtype: float32, num_threads: 1}
rollout: {engine: transformers, max_prompt_tokens: 16, max_response_tokens: 6}
training: {lr: 1e-3, warmup_steps: 0, prompts_per_step: 4, group_size: 4, minibatch_size: 8}
dynamic_sampling: {enabled: false}
overlong: {buffer_tokens: 2}
env_runners: {num_env_runners: 1, num_cpus_per_env_runner: 1}
learners: {num_learners: 0}
resources: {num_cpus_for_main_process: 1}
"""
GRID = """
search:
  training.epsilon_low: {grid: [0.1, 0.2, 0.3]}
  training.epsilon_high: {grid: [0.2, 0.3]}
tune: {max_concurrent_trials: 1, checkpoint_frequency: 1, max_failures: 1}
stop: {training_iteration: 3}
"""
PAIRS = [(0.1, 0.2), (0.1, 0.3), (0.2, 0.2), (0.2, 0.3), (0.3, 0.3)]
PBT = """
search:
  training.epsilon_low: {uniform: [0.05, 0.4]}
  training.epsilon_high: {uniform: [0.1, 0.8]}
tune:
  num_samples: 4
  checkpoint_frequency: 1
  scheduler: {type: pbt, perturbation_interval: 2, quantile_fraction: 0.5}
stop: {training_iteration: ITERATIONS}
"""
ITERATIONS = 6  # two rounds, after each of which half of the trials take over from the others

CRASHING = """
import os
from pathlib import Path
from rllib_dapo.envs.arithmetic import ArithmeticEnv

class CrashingEnv(ArithmeticEnv):
    \"\"\"Takes its process with it, once, at a problem of the third iteration.\"\"\"

    default_settings = ArithmeticEnv.default_settings | {"mark": ""}

    def problem(self, seed):
        mark = Path(self.settings["mark"])
        if seed == 9 and not mark.exists():
            mark.touch()
            os._exit(1)
        return super().problem(seed)
"""
ONE = """
tune: {checkpoint_frequency: 1, max_failures: 1}
stop: {training_iteration: 4}
"""
SEEDS = """
search: {seeds: 2, training.epsilon_high: {grid: [0.28, 0.4]}}
tune: {scheduler: {type: race, grace_period: 1}}
stop: {training_iteration: 3}
"""


pytestmark = pytest.mark.slow

SWEEP = ("train", "sweep.yaml", "--storage", "runs")
Run = Callable[..., subprocess.CompletedProcess[str]]


def _write(folder: Path, model: Path, text: str) -> None:
    (folder / "sweep.yaml").write_text(
        f"{FILE}{text}".replace("MODEL", str(model)).replace("ITERATIONS", str(ITERATIONS))
    )


def _results(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """By trial, all its results in the order in which they were written.

    Of one that is being written, or was when its process was killed, those that are whole.
    """
    files = sorted(folder.glob("runs/sweep_*/trial_*/result.json"))
    lines = {file.parent.name: file.read_text().splitlines(keepends=True) for file in files}
    return {
        trial: [json.loads(line) for line in written if line.endswith("\n")]
        for trial, written in lines.items()
    }


def _pair(result: dict[str, Any]) -> tuple[float, float]:
    return result["config"]["epsilon_low"], result["config"]["epsilon_high"]


def test_a_sweep_that_is_killed_goes_on_and_runs_no_trial_twice_from_the_start(
    start_command: Callable[..., subprocess.Popen[str]],
    run_command: Run,
    tmp_path: Path,
    raw_model: Path,
) -> None:
    _write(tmp_path, raw_model, GRID)
    killed = start_command(*SWEEP, folder=tmp_path)
    # Five results are there in the second of five trials.
    while sum(len(results) for results in _results(tmp_path).values()) < 5:
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.1)
    killed.kill()
    killed.wait()
    before = {trial: len(results) for trial, results in _results(tmp_path).items()}

    resumed = run_command(*SWEEP, "--resume", folder=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    after = _results(tmp_path)
    assert sorted(_pair(results[-1]) for results in after.values()) == PAIRS
    assert [results[-1]["training_iteration"] for results in after.values()] == [3] * len(PAIRS)
    assert [results[-1]["stop_reason"] for results in after.values()] == [
        "training_iteration reached 3"
    ] * len(PAIRS)
    for trial, results in after.items():
        iterations = [result["training_iteration"] for result in results]
        # At most the iteration that was under way, or the last one before, is made again.
        assert iterations.count(1) == 1 or before.get(trial, 0) <= 1, (trial, iterations)
        assert len(iterations) <= 4, (trial, iterations)
    # Each session had one engine, which all its trials shared.
    everything = [result for results in after.values() for result in results]
    assert len({result["engines"]["1"]["started"] for result in everything}) == 2


def test_points_run_under_the_same_seeds_take_turns_and_are_compared_in_the_end(
    run_command: Run, tmp_path: Path, raw_model: Path
) -> None:
    _write(tmp_path, raw_model, SEEDS)
    done = run_command(*SWEEP, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

    trials = _results(tmp_path).values()
    tried = [(r[-1]["config"]["epsilon_high"], r[-1]["config"]["seed"]) for r in trials]
    assert sorted(tried) == [(0.28, 0), (0.28, 1), (0.4, 0), (0.4, 1)]
    # They paused at both milestones, and repeated nothing.
    assert [[result["training_iteration"] for result in results] for results in trials] == [
        [1, 2, 3]
    ] * 4

    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    (point,) = [row for row in rows if row.startswith("point 1 epsilon_high=0.28: ")]
    assert "over 2 seeds" in point
    assert "verdict no difference: 2 points cannot be told apart by 2 seeds" in " ".join(rows)
    assert ", the best trial of the best point, by max of its last" in " ".join(rows)
    (kept,) = tmp_path.glob("runs/sweep_*/sweep.json")
    comparison = json.loads(kept.read_text())
    assert comparison["seeds"] == ["0", "1"]
    assert comparison["settings"] == ["epsilon_high"]
    assert [len(point["trials"]) for point in comparison["points"]] == [2, 2]
    assert comparison["verdict"] == "no difference"


@pytest.mark.parametrize("cpus", [pytest.param(1, marks=pytest.mark.exhaustive), 0.5])
def test_bounds_change_while_trials_train_and_no_engine_is_made_anew(
    run_command: Run, tmp_path: Path, raw_model: Path, cpus: float
) -> None:
    _write(tmp_path, raw_model, PBT)
    settings = {
        "env_runners.num_cpus_per_env_runner": cpus,
        "resources.num_cpus_for_main_process": cpus,
    }
    done = run_command(*SWEEP, folder=tmp_path, settings=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = _results(tmp_path)
    pairs = [[_pair(result) for result in results] for results in trials.values()]
    assert any(len(set(of_trial)) > 1 for of_trial in pairs), "nothing was exploited"
    assert all(low <= high for of_trial in pairs for low, high in of_trial)
    assert [results[-1]["training_iteration"] for results in trials.values()] == [ITERATIONS] * 4
    engines = {json.dumps(result["engines"]) for results in trials.values() for result in results}
    at_once = min(4, int(get_num_cpus(override_docker_cpu_warning=True) / (2 * cpus)))
    assert len(engines) <= at_once


def test_a_trial_whose_process_dies_starts_again_from_its_last_checkpoint(
    run_command: Run, tmp_path: Path, raw_model: Path
) -> None:
    _write(tmp_path, raw_model, ONE)
    (tmp_path / "crashing.py").write_text(CRASHING)
    settings = {
        "environment.env": "crashing:CrashingEnv",
        "environment.env_config.mark": tmp_path / "mark",
        "env_runners.num_env_runners": 0,
    }
    done = run_command(*SWEEP, folder=tmp_path, settings=settings)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    (results,) = _results(tmp_path).values()
    assert [result["training_iteration"] for result in results] == [1, 2, 3, 4]
    assert len({result["engines"]["0"]["pid"] for result in results}) == 2
    assert "failed and starts again from its last checkpoint" in output
    assert "dashboard: " not in output  # RLLIB_DAPO_DASHBOARD=0
