"""Three trials at the same time on one engine: one is killed, and the others do not notice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FILE = """
environment: {env: rllib_dapo/Arithmetic-v0, env_config: {max_operand: 9}}
language_model: {name: MODEL, dtype: float32, num_threads: 1, lora: {rank: 8}}
rollout: {shared_engine: true, max_prompt_tokens: 16, max_response_tokens: 6}
training: {lr: 1e-3, warmup_steps: 0, prompts_per_step: 4, group_size: 4, minibatch_size: 8}
dynamic_sampling: {enabled: false}
overlong: {buffer_tokens: 2}
env_runners: {num_env_runners: 0}
learners: {num_learners: 0, num_cpus_per_learner: 0.1}
resources: {num_cpus_for_main_process: 0.1}
search: {training.epsilon_high: {grid: [0.2, 0.28, 0.4]}}
stop: {training_iteration: ITERATIONS}
"""
ITERATIONS = 12

pytestmark = pytest.mark.slow


def _results(folder: Path) -> dict[float, list[dict[str, Any]]]:
    """By upper clip bound, all results of a trial; of one that is being written, whole lines."""
    found = {}
    for file in folder.glob("runs/sweep_*/trial_*/result.json"):
        lines = file.read_text().splitlines(keepends=True)
        results = [json.loads(line) for line in lines if line.endswith("\n")]
        if results:
            found[results[0]["config"]["epsilon_high"]] = results
    return found


def test_trials_sample_from_one_engine_and_one_that_is_killed_leaves_the_others_alone(
    start_command: Callable[..., subprocess.Popen[str]],
    run_command: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    raw_model: Path,
) -> None:
    for name in ("together", "alone"):
        (tmp_path / name).mkdir()
        text = FILE.replace("MODEL", str(raw_model)).replace("ITERATIONS", str(ITERATIONS))
        (tmp_path / name / "sweep.yaml").write_text(text)
    sweep = ("train", "sweep.yaml", "--storage", "runs")

    process = start_command(*sweep, folder=tmp_path / "together")
    while len(found := _results(tmp_path / "together")) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    os.kill(found[0.28][0]["pid"], signal.SIGKILL)
    output = "".join(process.communicate())

    assert process.returncode == 1, output  # one trial has failed
    found = _results(tmp_path / "together")
    assert len(found[0.28]) < ITERATIONS
    for bound in (0.2, 0.4):
        assert [r["training_iteration"] for r in found[bound]] == list(range(1, ITERATIONS + 1))
    # One engine, in a process of its own, for trials that were at work at the same time.
    everything = [result for results in found.values() for result in results]
    engines = {json.dumps(result["engines"]["0"], sort_keys=True) for result in everything}
    assert len(engines) == 1
    assert json.loads(engines.pop())["pid"] not in {result["pid"] for result in everything}
    starts = [results[0]["timestamp"] for results in found.values()]
    assert max(starts) <= min(found[bound][-1]["timestamp"] for bound in (0.2, 0.4))

    # A trial's numbers are those that it has alone.
    settings = {"search.training.epsilon_high": "{grid: [0.4]}", "stop.training_iteration": 1}
    done = run_command(*sweep, folder=tmp_path / "alone", settings=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    alone, together = _results(tmp_path / "alone")[0.4][0], found[0.4][0]
    policy = ("learners", "default_policy")
    for path in (
        ("env_runners", "accuracy"),
        (*policy, "policy_loss"),
        (*policy, "gradient_norm"),
    ):
        values = []
        for result in (alone, together):
            value: Any = result
            for name in path:
                value = value[name]
            values.append(value)
        assert values[0] == pytest.approx(values[1], rel=1e-5, abs=1e-8), path
