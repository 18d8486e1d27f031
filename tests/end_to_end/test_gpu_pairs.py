"""Where Ray puts engines and Learners that share GPUs: each pair on one of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# In a process of its own, with a Ray that is told of four GPUs. What it hands out are numbers.
SCRIPT = """
import json
import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as InGroup
from rllib_dapo import DAPO, DAPOConfig

PAIRS = 4
config = (
    DAPOConfig()
    .environment("rllib_dapo/Arithmetic-v0")
    .language_model("tiny")
    .rollout(colocate=True)
    .learners(num_learners=PAIRS, num_gpus_per_learner=0.4)
    .env_runners(num_env_runners=PAIRS, num_gpus_per_env_runner=0.6)
)
ray.init(num_cpus=16, num_gpus=PAIRS, include_dashboard=False, log_to_driver=False)

@ray.remote
class Side:
    def gpus(self):
        return ray.get_gpu_ids()

group = DAPO.default_resource_request(config.to_dict())()
ray.get(group.ready(), timeout=300)

# As RLlib does: EnvRunners in their bundles, Learners wherever there is room.
def start(gpus, bundle):
    where = InGroup(group, placement_group_bundle_index=bundle)
    return Side.options(num_cpus=0, num_gpus=gpus, scheduling_strategy=where).remote()

engines = [start(config.num_gpus_per_env_runner, 1 + i) for i in range(PAIRS)]
learners = [start(config.num_gpus_per_learner, -1) for _ in range(PAIRS)]
print(json.dumps([
    sorted(sum(ray.get([side.gpus.remote() for side in sides], timeout=300), []))
    for sides in (engines, learners)
]))
"""


@pytest.mark.slow
def test_no_two_engines_and_no_two_learners_are_given_the_same_gpu() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[[0, 1, 2, 3], [0, 1, 2, 3]]"
