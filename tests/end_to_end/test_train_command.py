"""`rllib-dapo train` and `export`, as a shell runs them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from transformers import AutoModelForCausalLM

from tests.end_to_end.marked_processes import marked_processes


def test_a_run_says_how_it_goes_and_what_to_type_next(recorded_run: Any) -> None:
    lines = recorded_run.done.stdout.splitlines()
    assert recorded_run.done.returncode == 0
    assert lines[0].startswith("tiny_arithmetic: DAPO on rllib_dapo/Arithmetic-v0")
    assert any(line.startswith("1/3 ") and "at the start" in line for line in lines)
    assert any(line.startswith("2/3 ") and "evaluation avg@2" in line for line in lines)
    assert any("rllib-dapo export" in line for line in lines)
    assert any(line.startswith("dashboard: http://") for line in lines)


def test_a_run_prints_nothing_but_its_own_lines(recorded_run: Any) -> None:
    done = recorded_run.done
    assert done.stderr == ""
    ours = (
        "tiny_arithmetic: ",
        "results: ",
        "dashboard: ",
        "starting",
        "waiting",
        "first iteration: ",
        "1/3 ",
        "2/3 ",
        "3/3 ",
        "  ",
    )
    assert [line for line in done.stdout.splitlines() if not line.startswith(ours)] == []
    assert all(character.isprintable() or character == "\n" for character in done.stdout)


def test_no_process_outlives_a_run(recorded_run: Any) -> None:
    left = marked_processes(*recorded_run.mark)
    _, alive = psutil.wait_procs(left, timeout=120)
    assert alive == []
    assert marked_processes(*recorded_run.mark) == []


@pytest.mark.slow
def test_the_trained_model_can_be_exported_and_loaded(
    recorded_run: Any,
    run_command: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    exported = run_command("export", recorded_run.checkpoint, "model", folder=tmp_path)
    assert exported.returncode == 0, exported.stderr
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert sum(parameter.numel() for parameter in model.parameters()) > 0
