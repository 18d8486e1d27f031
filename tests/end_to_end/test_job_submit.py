"""`ray job submit` of the example, against a cluster that `ray start` started."""

from __future__ import annotations

import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import psutil
import pytest

pytestmark = pytest.mark.slow

MARK = "RLLIB_DAPO_TEST_CLUSTER"
EXAMPLE = Path(__file__).parents[2] / "examples" / "submit_job.py"
RAY = Path(sys.executable).with_name("ray")
with_token = runpy.run_path(str(EXAMPLE))["with_token"]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _environment() -> dict[str, str]:
    """The cluster's: of this package it knows nothing but what is installed."""
    left_out = ("RAY_ADDRESS", "PYTHONPATH", "PYTHONSAFEPATH")
    here = {name: value for name, value in os.environ.items() if name not in left_out}
    python = Path(sys.executable).parent
    return here | {"OMP_NUM_THREADS": "1", "PATH": f"{python}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def cluster_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dashboard's address of a cluster of one machine, on ports of its own."""
    port, dashboard, client, agent, agent_grpc, metrics, environments = _free_ports(7)
    log = tmp_path_factory.mktemp("cluster") / "log"
    with (
        tempfile.TemporaryDirectory(prefix="dapo", ignore_cleanup_errors=True) as ray_folder,
        log.open("w") as stream,
    ):
        arguments = [
            *(str(RAY), "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2"),
            f"--port={port}",
            f"--temp-dir={ray_folder}",
            "--include-dashboard=true",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={agent}",
            f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--metrics-export-port={metrics}",
            f"--runtime-env-agent-port={environments}",
            f"--ray-client-server-port={client}",
            "--min-worker-port=0",
            "--max-worker-port=0",
        ]
        head = _start_head(arguments, ray_folder, stream)
        try:
            # Ray gives its processes 30 seconds to start, which on a busy machine may not do.
            while not _is_ready(head, log):
                _end(_marked(ray_folder))
                head = _start_head(arguments, ray_folder, stream)
            yield f"http://127.0.0.1:{dashboard}"
        finally:
            os.killpg(head.pid, signal.SIGTERM)
            try:
                head.wait(timeout=120)
            finally:
                _end(_marked(ray_folder))


def _start_head(arguments: list[str], ray_folder: str, stream: IO[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments,
        env=_environment() | {MARK: ray_folder, "PYTHONUNBUFFERED": "1"},
        cwd=ray_folder,
        stdout=stream,
        stderr=stream,
        start_new_session=True,
    )


def _is_ready(head: subprocess.Popen[bytes], log: Path) -> bool:
    """Waits until it says that it stays until it is ended; False where it came up too slowly."""
    while "--block" not in log.read_text():
        if head.poll() is not None:
            assert 0 < log.read_text().count("timed out during startup") < 4, log.read_text()
            return False
        time.sleep(0.2)
    return True


def _marked(mark: str) -> list[psutil.Process]:
    """Processes of that cluster, and of the jobs on it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:  # another user's, or gone by now
            continue
    return found


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.terminate()
    _, left = psutil.wait_procs(processes, timeout=60)
    for process in left:
        process.kill()


def _run(*command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A command on somebody's own machine: with this package, as the tests see it.

    Args:
        *command: The command.
        **more: Environment variables beside this process's own.
    """
    return subprocess.run(
        list(map(str, command)),
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | more,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_submitted_run_succeeds(
    cluster_address: str, quick_settings: Mapping[str, object], tmp_path: Path
) -> None:
    settings = {
        **quick_settings,
        "evaluation.evaluation_interval": 0,
        "evaluation.evaluate_before_training": "false",
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    # A file of one's own, on a file of one's own, on a preset.
    (tmp_path / "below.yaml").write_text("base: tiny_arithmetic\nstop: {training_iteration: 2}\n")
    (tmp_path / "mine.yaml").write_text("base: below.yaml\ntraining: {lr: 1.0e-4}\n")
    done = _run(
        *(sys.executable, EXAMPLE, "--address", cluster_address),
        *(tmp_path / "mine.yaml", "--storage", tmp_path / "shared", *words),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    submission = re.search(r"raysubmit_\w+", done.stdout + done.stderr)
    assert submission is not None, done.stdout
    status = _run(
        RAY, "job", "status", "--address", cluster_address, submission.group(), **with_token({})
    )
    assert "succeeded" in status.stdout + status.stderr
    listed = _run(RAY, "job", "list", "--address", cluster_address, **with_token({}))
    assert re.search(rf"{submission.group()}.*SUCCEEDED", listed.stdout + listed.stderr, re.S)
    assert "'job_name': 'mine'" in listed.stdout + listed.stderr
    assert re.search(r"^2/2 ", done.stdout, re.M), "the log of the job is followed"
    assert len(list((tmp_path / "shared").glob("mine_*/trial_00000/result.json"))) == 1


def test_a_job_that_fails_says_so(cluster_address: str, tmp_path: Path) -> None:
    command = (sys.executable, EXAMPLE, "--address", cluster_address)
    done = _run(*command, "no_such_preset", "--storage", tmp_path)
    assert done.returncode != 0
    assert "no_such_preset: no such file, nor a preset" in done.stdout + done.stderr


def test_the_job_runs_the_package_that_was_packed(cluster_address: str, tmp_path: Path) -> None:
    assert _run(sys.executable, EXAMPLE, "--pack", tmp_path / "job").returncode == 0
    code = "import rllib_dapo.envs as e; print('ENVS', e.__file__)"
    done = _run(
        *(RAY, "job", "submit", "--address", cluster_address),
        *("--working-dir", tmp_path / "job", "--", "python", "-c", code),
        **with_token({}),
    )
    assert re.search(
        r"^ENVS .*/working_dir_files/.*/rllib_dapo/envs/__init__\.py$", done.stdout, re.M
    ), done.stdout
