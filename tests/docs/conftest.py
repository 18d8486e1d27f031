"""A short run, for the commands that need what a run leaves."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def trained(
    run_command: Callable[..., subprocess.CompletedProcess[str]],
    quick_settings: dict[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, object]:
    """What MODEL, CHECKPOINT and RUN_DIR stand for on the pages, and models of a hub."""
    folder = tmp_path_factory.mktemp("trained")
    settings = {**quick_settings, "stop.training_iteration": 2, "tune.checkpoint_frequency": 2}
    done = run_command(
        "train", "tiny_arithmetic", "--storage", folder, folder=folder, settings=settings
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = folder.glob("tiny_arithmetic_*")
    (checkpoint,) = run.glob("*/checkpoint_*")

    model = quick_settings["language_model.name"]
    names = ("MODEL", "FOLDER", "Qwen/Qwen2.5-0.5B", "smollm2-135m")
    return {"CHECKPOINT": checkpoint, "RUN_DIR": run, **dict.fromkeys(names, model)}
