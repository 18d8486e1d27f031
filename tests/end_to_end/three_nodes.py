"""A run on three nodes, each with an address of its own, of which two are lost; see its test.

    python three_nodes.py MODEL FOLDER     # the last line of its output is JSON

The first node has the driver and an EnvRunner, the second an EnvRunner, the third two Learners.
The second is lost in the middle of a batch, the third in the middle of a save.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from rllib_dapo import DAPO, DAPOConfig
from rllib_dapo.learner.collectives import rank
from rllib_dapo.learner.learner import DAPOTorchLearner
from rllib_dapo.learner.learner_group import ask_learners
from rllib_dapo.rollout import rollout_result
from rllib_dapo.stored_group import store_group

PATIENCE_S = 600
RUNNER, LEARNER = {"runner": 1}, {"learner": 2}


def add_node(cluster: Cluster, number: int, resources: dict[str, float]) -> Any:
    return cluster.add_node(
        num_cpus=4, resources=resources, node_ip_address=f"127.0.0.{number}", wait=True
    )


def make_config(model: Path) -> DAPOConfig:
    return (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0", env_config={"max_operand": 9})
        .language_model(str(model), dtype="float32", num_threads=1)
        .rollout(
            engine="transformers",
            max_prompt_tokens=16,
            max_response_tokens=4,
            max_groups_in_flight=1,
        )
        .env_runners(num_env_runners=2, custom_resources_per_env_runner={"runner": 1})
        .learners(
            num_learners=2, num_cpus_per_learner=1, custom_resources_per_learner={"learner": 1}
        )
        .training(lr=1e-3, warmup_steps=0, prompts_per_step=8, group_size=4, minibatch_size=16)
        .dynamic_sampling(enabled=False)
        .overlong(buffer_tokens=2)
        .fault_tolerance(restart_failed_env_runners=True, env_runner_health_probe_timeout_s=2)
        .debugging(seed=3)
    )


class WatchedDAPO(DAPO):
    """Notes the seeds of all groups that were trained on."""

    trained: Counter[int]

    def setup(self, config: DAPOConfig) -> None:
        self.trained = Counter()
        super().setup(config)

    def _sample(self) -> Any:
        batch = super()._sample()
        self.trained.update(summary.seed for summary in batch.sampler.accepted)
        return batch


def fingerprints(algo: DAPO) -> list[int]:
    return ask_learners(algo.learner_group, lambda learner: learner.fingerprint())


def addresses(algo: DAPO) -> dict[str, list[str]]:
    def here(_: Any) -> str:
        return ray.util.get_node_ip_address()

    return {
        "runners": algo.env_runner_group.foreach_env_runner(here, local_env_runner=False),
        "learners": ask_learners(algo.learner_group, here),
    }


def lose_node_when(marker: Path, cluster: Cluster, node: Any) -> threading.Thread:
    """Removes a node, as a machine that loses its power, as soon as a file is there."""

    def watch() -> None:
        wait_for(marker.exists)
        cluster.remove_node(node, allow_graceful=False)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(condition)
        time.sleep(0.05)


def hang_in_a_batch(algo: DAPO, address: str, marker: Path) -> None:
    """Makes the EnvRunner of one node bring groups once, and never answer again.

    So groups that it has handed over are lost with it. The other one waits for that.
    """

    def prepare(runner: Any) -> None:
        hangs = ray.util.get_node_ip_address() == address
        advance = runner.advance
        brought: list[int] = []
        # Groups that go with their summaries could not be lost.
        rollout_result.store_group = partial(store_group, small=-1)

        def advance_or_hang(*args: Any, **kwargs: Any) -> Any:
            if brought and hangs:
                marker.touch()
                time.sleep(PATIENCE_S)
            elif brought:
                wait_for(marker.exists)
            result = advance(*args, **kwargs)
            brought.extend(group.summary.seed for group in result.groups)
            return result

        runner.advance = advance_or_hang

    algo.env_runner_group.foreach_env_runner(prepare, local_env_runner=False)


def hang_in_a_save(algo: DAPO, marker: Path) -> None:
    """Makes the second Learner stop when its part is written, before the save is over."""

    def prepare(learner: DAPOTorchLearner) -> None:
        def hang() -> int:
            marker.touch()
            time.sleep(PATIENCE_S)
            return 0

        if rank() == 1:
            learner.fingerprint = hang  # type: ignore[method-assign]

    ask_learners(algo.learner_group, prepare)


def main(model: Path, folder: Path) -> dict[str, Any]:
    """Makes three nodes, and gives what `run_thrice` has found."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 4, "resources": RUNNER, "include_dashboard": False},
    )
    try:
        second, third = add_node(cluster, 2, RUNNER), add_node(cluster, 3, LEARNER)
        ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
        return run_thrice(make_config(model), folder, cluster, second, third)
    finally:
        ray.shutdown()
        cluster.shutdown()


def run_thrice(
    config: DAPOConfig, folder: Path, cluster: Cluster, second: Any, third: Any
) -> dict[str, Any]:
    """Runs undisturbed, disturbed and restored, and gives what a test compares."""
    found: dict[str, Any] = {"driver": ray.util.get_node_ip_address()}
    config.algo_class = WatchedDAPO

    algo = config.copy(copy_frozen=False).build_algo()
    found["addresses"] = addresses(algo)
    undisturbed = []
    for _ in range(3):
        algo.train()
        undisturbed.append((sorted(algo.trained.elements()), fingerprints(algo)))
    algo.stop()

    algo = config.copy(copy_frozen=False).build_algo()
    algo.train()
    hang_in_a_batch(algo, "127.0.0.2", folder / "in_a_batch")
    losing = lose_node_when(folder / "in_a_batch", cluster, second)
    algo.train()
    losing.join()
    found["batch"] = [undisturbed[1], (sorted(algo.trained.elements()), fingerprints(algo))]

    algo.save_to_path(folder / "good")
    hang_in_a_save(algo, folder / "in_a_save")
    losing = lose_node_when(folder / "in_a_save", cluster, third)
    try:
        algo.save_to_path(folder / "cut")
        found["cut"] = "saved"
    except Exception as error:
        found["cut"] = repr(error)
    losing.join()
    algo.stop()

    add_node(cluster, 4, RUNNER)
    add_node(cluster, 5, LEARNER)
    algo = config.copy(copy_frozen=False).build_algo()
    try:
        algo.restore_from_path(folder / "cut")
        found["refused"] = "restored"
    except ValueError as error:
        found["refused"] = str(error)
    algo.restore_from_path(folder / "good")
    found["restored_addresses"] = addresses(algo)
    before = fingerprints(algo)
    algo.train()
    found["restored"] = [undisturbed[1][1], before]
    found["after"] = [undisturbed[2][1], fingerprints(algo)]
    algo.stop()

    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))) + "\n")
