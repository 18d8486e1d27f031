"""Whoever is killed, and whenever: in the end the run has trained on the same groups.

Processes get SIGKILL at random moments. An EnvRunner is replaced; whatever else dies ends the run,
which goes on with `--resume` from the newest checkpoint. No process may be left.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from rllib_dapo.tracking.recording import read_recording
from tests.end_to_end.marked_processes import marked_processes

pytestmark = pytest.mark.exhaustive  # each takes one to three minutes

Run = Callable[..., subprocess.CompletedProcess[str]]
# Seed and tokens of each response, by training step.
Trained = dict[int, list[tuple[int, list[list[int]]]]]

ITERATIONS = 24
CHECKPOINTS = "runs/*/trial_00000/checkpoint_*"
# What processes call themselves.
TITLES = {
    "EnvRunner": "ray::TextEnvRunner",
    "trial": "ray::DAPO",
    "trial that saves": "ray::DAPO",
    "Learner": "ray::_WrappedExecutable",  # as Ray Train wraps whatever it runs for RLlib
}
TRAIN = ("train", "tiny_arithmetic", "--storage", "runs")
# Verdicts that a barely trained model gets both of, so that groups are accepted and dropped.
VERDICTS = """
import hashlib
import gymnasium as gym
from rllib_dapo.envs import TextSpace

class Verdicts(gym.Env):
    observation_space = TextSpace(100)
    action_space = TextSpace(1000)

    def __init__(self, config=None):
        self.problem = 0

    def reset(self, *, seed=None, options=None):
        self.problem = seed or 0
        return f"{self.problem % 9}+{self.problem % 7}=", {}

    def step(self, action):
        drawn = hashlib.sha256(f"{self.problem} {action}".encode()).digest()[0]
        is_correct = drawn < (64, 250)[self.problem % 2]
        return "", 1.0 if is_correct else -1.0, True, False, {"is_correct": is_correct}
"""


@pytest.fixture(scope="module")
def settings(quick_settings: Mapping[str, object]) -> dict[str, object]:
    return {
        **quick_settings,
        "environment.env": "verdicts:Verdicts",
        "environment.env_config": "{}",
        "dynamic_sampling.enabled": "true",
        "evaluation.evaluation_interval": "null",
        "rollout.record_groups": "true",
        "env_runners.num_env_runners": 2,
        "env_runners.num_cpus_per_env_runner": 0.5,
        "learners.num_learners": 1,
        "learners.num_cpus_per_learner": 0.5,
        "resources.num_cpus_for_main_process": 0.5,
        "debugging.seed": 3,
        "tune.checkpoint_frequency": 2,
        "tune.num_to_keep": 2,
        "stop.training_iteration": ITERATIONS,
    }


@pytest.fixture(scope="module")
def undisturbed(
    run_command: Run, settings: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    """What the run trains on where nobody is killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "verdicts.py").write_text(VERDICTS)
    done = run_command(*TRAIN, folder=folder, settings=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    trained = trained_on(folder)
    assert len(trained) == ITERATIONS
    seeds = [seed for groups in trained.values() for seed, _ in groups]
    assert len(set(seeds)) == len(seeds) < max(seeds), "some groups were dropped, none comes twice"
    return trained


def trained_on(folder: Path) -> Trained:
    (trial,) = folder.glob("runs/*/trial_00000")
    return {
        step.number: [
            (group.seed, [response.token_ids.tolist() for response in group.responses])
            for group in step.groups()
        ]
        for step in read_recording(trial)
    }


def titled(mark: tuple[str, str], word: str) -> list[psutil.Process]:
    """Processes of a run that call themselves so."""
    return [process for process in marked_processes(*mark) if _title(process).startswith(word)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def iterations(folder: Path) -> int:
    """Number of iterations whose results are there whole."""
    return sum(
        file.read_text().count("\n") for file in folder.glob("runs/*/trial_00000/result.json")
    )


def wait_until(found: Callable[[], Any], running: subprocess.Popen[str]) -> Any:
    """Waits until something is there; the run must not end before."""
    while not (thing := found()):
        assert running.poll() is None, running.communicate()
        time.sleep(0.01)
    return thing


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("victim", ["EnvRunner", "command", "trial", "trial that saves", "Learner"])
def test_what_is_trained_on_is_what_it_would_have_been(
    run_command: Run,
    start_command: Callable[..., subprocess.Popen[str]],
    settings: dict[str, object],
    undisturbed: Trained,
    tmp_path: Path,
    victim: str,
    number: int,
) -> None:
    (tmp_path / "verdicts.py").write_text(VERDICTS)
    mark = ("RLLIB_DAPO_TEST_RUN", str(tmp_path))
    run = {"folder": tmp_path, "settings": settings, "environment": dict([mark])}
    moment = random.Random(f"{victim} {number}")
    first = moment.randint(2, ITERATIONS - 8)

    running = start_command(*TRAIN, **run)
    wait_until(lambda: iterations(tmp_path) >= first, running)
    if victim == "trial that saves":
        saved = set(tmp_path.glob(CHECKPOINTS))
        wait_until(lambda: set(tmp_path.glob(CHECKPOINTS)) - saved, running)
        time.sleep(moment.uniform(0, 0.02))
    else:
        time.sleep(moment.uniform(0, 0.5))
    if victim == "command":
        running.kill()
    else:
        wait_until(lambda: titled(mark, TITLES[victim]), running)[0].kill()

    out, err = running.communicate()
    if victim == "EnvRunner":
        assert running.returncode == 0, out + err
    else:
        assert running.returncode in (1, -signal.SIGKILL), out + err
        assert none_left(mark)
        resumed = run_command(*TRAIN, "--resume", **run)
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        out, err = resumed.stdout, resumed.stderr
    assert trained_on(tmp_path) == undisturbed, out + err
    assert none_left(mark)


def none_left(mark: tuple[str, str]) -> bool:
    """Whether all processes of a run end."""
    return psutil.wait_procs(marked_processes(*mark), timeout=120)[1] == []
