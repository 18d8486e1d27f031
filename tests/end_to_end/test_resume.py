"""A run that is saved and restored in a new process goes on as if it had never stopped."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import json, sys
import ray
from rllib_dapo import DAPO, DAPOConfig, algorithm
from rllib_dapo.ray_internals import start_ray

what, checkpoint, model = sys.argv[1:]

def config():
    return (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0", env_config={"max_operand": 4})
        .language_model(model, dtype="float32", num_threads=1)
        .rollout(engine="transformers", max_prompt_tokens=16, max_response_tokens=6)
        .env_runners(num_env_runners=0)
        .training(lr=1e-3, warmup_steps=5, prompts_per_step=4, group_size=8, minibatch_size=16)
        .dynamic_sampling(max_rounds=4)
        .overlong(buffer_tokens=2)
        .debugging(seed=5)
    )

recorded = {}
plan_update = algorithm.plan_update

def record(accepted, groups, config):
    data, shaping = plan_update(accepted, groups, config)
    recorded["plan"] = data
    recorded["prompts"] = [groups[g.seed].group().prompt for g in accepted]
    return data, shaping

algorithm.plan_update = record

start_ray(num_cpus=1, include_dashboard=False, logging_level="ERROR")
if what == "run":
    algo = config().build_algo()
    for _ in range(3):
        algo.train()
    algo.save_to_path(checkpoint)
else:
    algo = DAPO.from_checkpoint(checkpoint)
result = algo.train()
learner = result["learners"]["default_policy"]
print("RESULT", json.dumps({
    "iteration": result["training_iteration"],
    "prompts": recorded["prompts"],
    "advantages": [
        response.advantage
        for plans in recorded["plan"].shards
        for minibatch in plans
        for microbatch in minibatch
        for response in microbatch.responses
    ],
    "loss": learner["policy_loss"],
    "gradient_norm": learner["gradient_norm"],
    "learning_rate": learner["default_optimizer_learning_rate"],
    "updates": learner["num_gradient_updates_lifetime"],
    "responses": [r.text for g in recorded["plan"].groups.values() for r in g.responses],
}))
algo.stop()
"""


@pytest.mark.slow
def test_a_restored_run_continues_with_the_same_prompts_advantages_and_loss(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, raw_model: Path
) -> None:
    def run(what: str) -> dict[str, Any]:
        words = ("-c", SCRIPT, what, tmp_path / "checkpoint", raw_model)
        done = run_python(*words, folder=tmp_path)
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert lines, done.stderr[-3000:]
        return json.loads(lines[0].removeprefix("RESULT "))

    whole, resumed = run("run"), run("resume")
    assert whole["iteration"] == 4
    assert whole["gradient_norm"] > 0
    assert resumed == whole
