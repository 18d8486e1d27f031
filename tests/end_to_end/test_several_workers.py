"""Training with engines that are spread over several workers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray import tune

from rllib_dapo import DAPOConfig
from rllib_dapo.algorithm import DAPO

Make = Callable[..., DAPOConfig]


@contextmanager
def running(config: DAPOConfig) -> Iterator[DAPO]:
    algo = config.build_algo()
    try:
        yield algo
    finally:
        algo.stop()


@pytest.fixture
def spread_config(small_config: Make) -> Make:
    """Makes a configuration whose one engine has several workers, in a process of its own."""

    def make(**rollout: Any) -> DAPOConfig:
        config = small_config(engine="vllm", num_env_runners=1).rollout(**rollout)
        config.env_runners(num_cpus_per_env_runner=0.5)
        return config.dynamic_sampling(enabled=False)

    return make


def assert_engine_follows(results: list[dict[str, Any]]) -> None:
    """Engine and Learner agree on what is sampled, also under weights that were trained."""
    for iteration, result in enumerate(results):
        assert result["env_runners"]["weights_seq_no"] == iteration
        assert result["learners"]["default_policy"]["sampler_logprob_gap_max"] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout",
    [
        {"tensor_parallel_size": 2},
        {"pipeline_parallel_size": 2},
        {"tensor_parallel_size": 2, "executor": "ray"},
    ],
    ids=["tensor parallel", "pipeline parallel", "tensor parallel on Ray"],
)
def test_it_trains_with_the_weights_that_it_samples_from(
    cluster: None, spread_config: Make, layout: dict[str, Any]
) -> None:
    with running(spread_config(**layout)) as algo:
        assert_engine_follows([algo.train() for _ in range(3)])


@pytest.mark.slow
def test_workers_that_are_ray_actors_run_in_their_trials_own_bundles(
    cluster: None, spread_config: Make, tmp_path: Path
) -> None:
    config = spread_config(tensor_parallel_size=2, executor="ray")
    tuner = tune.Tuner(
        "DAPO",
        param_space=config,
        run_config=tune.RunConfig(
            storage_path=str(tmp_path), stop={"training_iteration": 2}, verbose=0
        ),
    )
    (result,) = tuner.fit()
    assert result.error is None
    assert result.metrics["training_iteration"] == 2
    assert result.metrics["learners"]["default_policy"]["sampler_logprob_gap_max"] < 1e-3


@pytest.mark.slow
def test_an_engine_whose_worker_is_killed_is_replaced_and_no_prompt_is_lost(
    cluster: None, spread_config: Make
) -> None:
    config = spread_config(tensor_parallel_size=2)
    config.fault_tolerance(restart_failed_env_runners=True)
    with running(config) as algo:
        first = algo.train()
        engine = psutil.Process(first["engines"]["1"]["pid"])
        workers = [
            p for p in engine.children(recursive=True) if "VLLM::Worker" in " ".join(p.cmdline())
        ]
        assert len(workers) == 2

        workers[1].kill()
        second = algo.train()
        assert second["env_runners"]["num_episodes"] == 32
        assert_engine_follows([first, second])
        assert second["engines"]["1"]["pid"] != engine.pid
        assert psutil.wait_procs([engine, *workers], timeout=60)[1] == []


@pytest.mark.slow
def test_an_engine_that_cannot_start_ends_the_run_with_what_its_worker_said(
    run_command: Callable[..., subprocess.CompletedProcess[str]],
    quick_settings: dict[str, object],
    tmp_path: Path,
) -> None:
    settings = quick_settings | {
        "rollout.engine": "vllm",
        "rollout.tensor_parallel_size": 2,
        "rollout.cpu_kv_cache_gib": "1e6",
        "env_runners.num_env_runners": 1,
        "env_runners.num_cpus_per_env_runner": 0.5,
        "stop.training_iteration": 1,
    }
    done = run_command("train", "tiny_arithmetic", folder=tmp_path, settings=settings)
    assert done.returncode == 1
    failed = done.stderr.splitlines()[-1]
    assert failed.startswith("trial_00000 failed: ValueError: ")
    assert "rollout.engine=vllm cannot run" in failed
    assert "Decrease --kv-cache-memory-bytes" in failed


def test_heads_that_cannot_be_shared_out_are_refused_before_ray_starts(
    invoke_command: Callable[..., subprocess.CompletedProcess[str]],
    quick_settings: dict[str, object],
    tmp_path: Path,
) -> None:
    settings = quick_settings | {
        "rollout.engine": "vllm",
        "rollout.tensor_parallel_size": 3,
        "env_runners.num_cpus_per_env_runner": 0.5,
    }
    done = invoke_command("train", "tiny_arithmetic", folder=tmp_path, settings=settings)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "rollout.tensor_parallel_size=3 does not divide the model's 2 attention heads" in line
