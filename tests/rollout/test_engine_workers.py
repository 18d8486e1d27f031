"""Engines over several workers: how they are placed, what they say when they fail, how they end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from rllib_dapo import DAPOConfig
from rllib_dapo.algorithm import DAPO
from rllib_dapo.rollout.engine import Engine, EngineDiedError, Sampling
from rllib_dapo.rollout.make_engine import make_engine
from rllib_dapo.rollout.vllm_weights import pieces
from rllib_dapo.rollout.worker_errors import record_worker_errors, worker_errors

PATIENCE_S = 120
Make = Callable[..., DAPOConfig]


# What a trial asks for


def bundles(config: DAPOConfig) -> list[dict[str, float]]:
    """All bundles of a trial, the main process's first."""
    request = DAPO.default_resource_request(config.to_dict())
    return [*([{}] if request.head_bundle_is_empty else []), *request.bundles]


def asking(**rollout: Any) -> DAPOConfig:
    config = DAPOConfig().environment("rllib_dapo/Arithmetic-v0").language_model("tiny")
    config.rollout(**rollout).resources(num_cpus_for_main_process=1)
    return config.env_runners(num_env_runners=2).learners(num_learners=1, num_gpus_per_learner=1)


def test_an_env_runner_has_the_gpus_of_its_engines_workers_in_one_bundle() -> None:
    config = asking(tensor_parallel_size=2, pipeline_parallel_size=2)
    config.env_runners(num_gpus_per_env_runner=4)
    runner = {"CPU": 1.0, "GPU": 4.0}
    assert bundles(config) == [{"CPU": 1.0}, runner, runner, {"GPU": 1.0}]


def test_workers_that_compute_on_cpus_have_one_each_unless_it_is_set() -> None:
    config = asking(tensor_parallel_size=2, engine="vllm").env_runners(num_gpus_per_env_runner=0)
    assert bundles(config)[1:3] == [{"CPU": 2.0}] * 2
    config.env_runners(num_cpus_per_env_runner=0.5)
    assert bundles(config)[1:3] == [{"CPU": 0.5}] * 2
    one = asking().env_runners(num_gpus_per_env_runner=0)
    assert bundles(one)[1:3] == [{"CPU": 1.0}] * 2


def test_workers_that_are_ray_actors_have_a_bundle_each_behind_all_others() -> None:
    """vLLM takes no more than one GPU of a bundle."""
    config = asking(tensor_parallel_size=2, executor="ray")
    config.env_runners(num_gpus_per_env_runner=2)
    runner, worker = {"CPU": 1.0}, {"GPU": 1.0}
    assert bundles(config) == [{"CPU": 1.0}, runner, runner, {"GPU": 1.0}, *[worker] * 4]

    on_cpus = config.copy(copy_frozen=False)
    on_cpus.env_runners(num_gpus_per_env_runner=0, num_cpus_per_env_runner=0.25)
    assert bundles(on_cpus)[4:] == [{"CPU": 0.25}] * 4


def test_a_share_of_a_gpu_is_for_engines_of_one_worker() -> None:
    shared = asking().env_runners(num_gpus_per_env_runner=0.5)
    assert bundles(shared)[1:3] == [{"CPU": 1.0, "GPU": 0.5}] * 2

    spread = asking(tensor_parallel_size=2).env_runners(num_gpus_per_env_runner=0.5)
    with pytest.raises(ValueError, match=r"=0\.5 does not fit rollout\.tensor_parallel_size=2"):
        spread.validate()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tensor_parallel_size": 0}, r"rollout\.tensor_parallel_size=0 must be at least 1"),
        ({"pipeline_parallel_size": -1}, r"rollout\.pipeline_parallel_size=-1 must be at least 1"),
        (
            {"tensor_parallel_size": 2, "engine": "transformers"},
            r"rollout\.tensor_parallel_size=2 needs rollout\.engine=vllm",
        ),
        (
            {"engine_kwargs": {"tensor_parallel_size": 2}},
            r"rollout\.engine_kwargs\.tensor_parallel_size=2 .* set rollout\.tensor_parallel_size",
        ),
        (
            {"engine_kwargs": {"distributed_executor_backend": "ray"}},
            r"rollout\.engine_kwargs\.distributed_executor_backend='ray' .* set rollout\.executor",
        ),
        (
            {"engine_kwargs": {"data_parallel_size": 2}},
            r"data_parallel_size=2 .* raise env_runners\.num_env_runners",
        ),
        ({"executor": "slurm"}, r"rollout\.executor='slurm' must be one of mp, ray"),
    ],
)
def test_what_cannot_be_spread_is_refused_with_the_way_out(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        asking(**settings).validate()
    assert "\n" not in str(refused.value)


# What goes between processes


def test_a_piece_ends_where_it_is_full_and_is_made_when_it_is_sent() -> None:
    made: list[str] = []

    def weights() -> Iterator[tuple[str, torch.Tensor]]:
        for name, size in {"a": 2, "b": 1, "c": 9, "d": 1}.items():
            made.append(name)
            yield name, torch.zeros(size)

    cut = pieces(weights(), max_bytes=12)
    assert [name for name, _ in next(cut)] == ["a", "b"]
    assert made == ["a", "b"]
    assert [[name for name, _ in piece] for piece in cut] == [["c"], ["d"]]


def test_the_first_error_of_a_worker_is_told_and_no_file_is_left() -> None:
    logger = logging.getLogger("vllm.test_of_worker_errors")
    with worker_errors() as errors:
        record_worker_errors()
        assert errors.first() is None
        for error in (ValueError("no room\n for keys"), RuntimeError("the other one is gone")):
            try:
                raise error
            except Exception:
                logger.exception("a worker failed")
        assert errors.first() == "ValueError: no room for keys"
        folder = Path(os.environ["RLLIB_DAPO_ENGINE_ERRORS"])

    assert not folder.exists()
    assert "RLLIB_DAPO_ENGINE_ERRORS" not in os.environ


# Workers that really run


def start(model: Path, **settings: Any) -> Engine:
    defaults = {"cpu_kv_cache_gib": 0.25, "max_model_len": 400, "tensor_parallel_size": 2}
    return make_engine(
        "vllm",
        model=str(model),
        dtype="float32",
        trust_remote_code=False,
        max_concurrent_responses=16,
        seed=0,
        engine_kwargs={},
        **defaults | settings,
    )


def workers() -> list[psutil.Process]:
    """The workers of this process's engines, which vLLM gives a title of their own."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "VLLM::Worker" in " ".join(child.cmdline())]


def sample_without_end(engine: Engine) -> None:
    sampling = Sampling(num_responses=16, max_tokens=380, temperature=2.0)
    while True:
        engine.generate([[5, 6, 7]], sampling=sampling, seeds=[1])


def assert_all_end(processes: list[psutil.Process]) -> None:
    assert processes
    assert psutil.wait_procs(processes, timeout=PATIENCE_S)[1] == []


@pytest.mark.slow
def test_an_engine_whose_worker_is_killed_says_so_and_leaves_no_process(raw_model: Path) -> None:
    engine = start(raw_model)
    there = workers()
    assert len(there) == 2
    # On a CPU they are copies of one process, which has imported vLLM for them.
    (server,) = {worker.parent() for worker in there}
    assert "starts engine workers" in " ".join(server.cmdline())
    threading.Timer(1.0, there[1].send_signal, [signal.SIGKILL]).start()
    try:
        with pytest.raises(EngineDiedError, match="one of the 2 worker processes"):
            sample_without_end(engine)
        assert_all_end(there)
    finally:
        engine.close()


@pytest.mark.slow
def test_what_a_worker_raises_at_its_start_is_the_reason_given(raw_model: Path) -> None:
    """vLLM tells the process that waits only that there was an error."""
    with pytest.raises(ValueError, match=r"rollout\.engine=vllm cannot run .*[Mm]emory") as failed:
        start(raw_model, cpu_kv_cache_gib=1e6)
    assert "\n" not in str(failed.value)
    assert workers() == []


@pytest.mark.slow
def test_workers_end_when_the_process_of_their_engine_is_killed(
    raw_model: Path, tmp_path: Path
) -> None:
    script = tmp_path / "holds_an_engine.py"
    script.write_text(
        "import signal\n"
        "from rllib_dapo.rollout.make_engine import make_engine\n"
        "if __name__ == '__main__':\n"
        f"    engine = make_engine('vllm', model={str(raw_model)!r}, dtype='float32',\n"
        "        trust_remote_code=False, max_model_len=64, max_concurrent_responses=4, seed=0,\n"
        "        cpu_kv_cache_gib=0.25, engine_kwargs={}, tensor_parallel_size=2)\n"
        "    print('ready', flush=True)\n"
        "    signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert any(line.strip() == "ready" for line in process.stdout)
            left = psutil.Process(process.pid).children(recursive=True)
        finally:
            process.kill()
    assert_all_end(left)
