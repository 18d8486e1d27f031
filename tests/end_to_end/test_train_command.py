"""`rllib-dapo train` and `export`, as a shell runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from transformers import AutoModelForCausalLM

MARK = "RLLIB_DAPO_TEST_RUN"


def _command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = "from rllib_dapo.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env={**os.environ, MARK: str(folder)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def _left_behind(folder: Path) -> list[psutil.Process]:
    """Processes that a command started there, or that something started by it did."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get(MARK) == str(folder)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except psutil.Error:  # another user's, or gone by now
            continue
    return found


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, raw_model: Path
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Two iterations of the tiny preset with a barely trained model."""
    folder = tmp_path_factory.mktemp("run")
    overrides = {
        "language_model.name": raw_model,
        "language_model.num_threads": 1,
        "rollout.engine": "transformers",
        "training.prompts_per_step": 4,
        "training.group_size": 4,
        "training.minibatch_size": 8,
        "dynamic_sampling.enabled": "false",
        "environment.env_config.max_operand": 9,
        "evaluation.evaluation_interval": 2,
        "evaluation.evaluation_num_prompts": 4,
        "evaluation.evaluation_samples_per_prompt": 2,
        "env_runners.num_env_runners": 0,
        "stop.training_iteration": 2,
    }
    settings = (word for name, value in overrides.items() for word in ("--set", f"{name}={value}"))
    return _command(
        "train", "tiny_arithmetic", "--storage", "runs", *settings, folder=folder
    ), folder


def test_a_run_says_how_it_goes_and_what_to_type_next(
    trained: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, _ = trained
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("tiny_arithmetic: DAPO on rllib_dapo/Arithmetic-v0")
    assert any(line.startswith("1/2 ") and "at the start" in line for line in lines)
    assert any(line.startswith("2/2 ") and "evaluation avg@2" in line for line in lines)
    assert any("rllib-dapo export" in line for line in lines)


def test_a_run_prints_nothing_but_its_own_lines(
    trained: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, _ = trained
    assert done.stderr == ""
    ours = (
        "tiny_arithmetic: ",
        "results: ",
        "dashboard: ",
        "starting",
        "waiting",
        "1/2 ",
        "2/2 ",
        "  ",
    )
    assert [line for line in done.stdout.splitlines() if not line.startswith(ours)] == []
    assert all(character.isprintable() or character == "\n" for character in done.stdout)


def test_no_process_outlives_a_run(trained: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, gone = psutil.wait_procs(_left_behind(trained[1]), timeout=15)
    assert _left_behind(trained[1]) == [], gone


def test_the_trained_model_can_be_exported_and_loaded(
    trained: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, folder = trained
    (line,) = [line for line in done.stdout.splitlines() if line.lstrip().startswith("checkpoint ")]
    checkpoint = line.split()[-1]
    exported = _command("export", checkpoint, "model", folder=folder)
    assert exported.returncode == 0, exported.stderr
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert sum(parameter.numel() for parameter in model.parameters()) > 0
