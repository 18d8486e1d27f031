"""`import rllib_dapo` is all that Tune needs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
import ray
from ray import tune
import rllib_dapo
from rllib_dapo.ray_internals import start_ray

model, storage = sys.argv[1:]
config = (
    rllib_dapo.DAPOConfig()
    .environment("rllib_dapo/Arithmetic-v0", env_config={"max_operand": 4})
    .language_model(model, dtype="float32", num_threads=1)
    .rollout(engine="transformers", max_prompt_tokens=16, max_response_tokens=6)
    .env_runners(num_env_runners=0)
    .training(prompts_per_step=2, group_size=4, minibatch_size=4)
    .training(epsilon_high=tune.grid_search([0.2, 0.28]))
    .dynamic_sampling(enabled=False)
    .overlong(buffer_tokens=2)
)
start_ray(num_cpus=2, include_dashboard=False, logging_level="ERROR")
results = tune.Tuner(
    "DAPO",
    param_space=config,
    run_config=tune.RunConfig(stop={"training_iteration": 1}, storage_path=storage, verbose=0),
).fit()
frame = results.get_dataframe()
print("RESULT", json.dumps({
    "errors": results.num_errors,
    "epsilon_high": sorted(frame["config/epsilon_high"]),
    "returns": frame["env_runners/episode_return_mean"].tolist(),
}))
"""

TWICE = """
import sys
from pathlib import Path
from rllib_dapo.run import tuner
from rllib_dapo.run.run_settings import read_settings

file, storage = map(Path, sys.argv[1:])
for number in range(2):
    outcome = tuner.run(read_settings(file), str(storage / f"run{number}"))
    print("ERRORS", outcome.grid.num_errors)
"""
FILE = """
environment: {env: rllib_dapo/Arithmetic-v0, env_config: {max_operand: 4}}
language_model: {name: MODEL, dtype: float32, num_threads: 1}
rollout: {engine: transformers, max_prompt_tokens: 16, max_response_tokens: 6}
env_runners: {num_env_runners: 0}
training: {prompts_per_step: 2, group_size: 4, minibatch_size: 4}
dynamic_sampling: {enabled: false}
overlong: {buffer_tokens: 2}
stop: {training_iteration: 1}
"""


@pytest.mark.slow
def test_the_registered_name_sweeps_over_a_bound(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, raw_model: Path
) -> None:
    done = run_python("-c", SCRIPT, raw_model, tmp_path / "results", folder=tmp_path)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stderr[-3000:]
    result = json.loads(lines[0].removeprefix("RESULT "))
    assert result["errors"] == 0
    assert result["epsilon_high"] == [0.2, 0.28]
    assert all(-1 <= value <= 1 for value in result["returns"])


@pytest.mark.slow
def test_a_process_can_run_one_after_the_other(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, raw_model: Path
) -> None:
    """Ray forgets what was registered when it is shut down, which the first run does at its end."""
    file = tmp_path / "run.yaml"
    file.write_text(FILE.replace("MODEL", str(raw_model)))
    done = run_python("-c", TWICE, file, tmp_path / "results", folder=tmp_path)
    assert done.stdout.count("ERRORS 0") == 2, done.stderr[-3000:]
