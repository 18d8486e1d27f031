"""`rllib-dapo sample` of a trained checkpoint, as a shell runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_a_checkpoint_answers_as_the_model_that_is_exported_from_it(
    recorded_run: Any, run_command: Run, tmp_path: Path
) -> None:
    exported = run_command("export", recorded_run.checkpoint, "model", folder=tmp_path)
    assert exported.returncode == 0, exported.stderr
    answers = []
    for model in (recorded_run.checkpoint, "model"):
        done = run_command("sample", model, "1+1=", "2+2=", "-n", 4, "--json", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        answers.append([json.loads(line) for line in done.stdout.splitlines()])

    assert [one["index"] for one in answers[0]] == [0, 1, 2, 3] * 2
    assert [one["token_ids"] for one in answers[0]] == [one["token_ids"] for one in answers[1]]


@pytest.mark.slow
def test_rllib_loads_the_module_of_a_checkpoint_which_answers_the_same(
    recorded_run: Any, run_command: Run, tmp_path: Path
) -> None:
    from ray.rllib.core.rl_module.rl_module import RLModule

    from rllib_dapo.learner.model_folder import MODULE_PATH

    prompts = ["1+1=", "2+2=", "3+4="]
    words = ("sample", recorded_run.checkpoint, *prompts, "--temperature", 0, "--json")
    done = run_command(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line)["response"] for line in done.stdout.splitlines()]

    module = RLModule.from_checkpoint(Path(recorded_run.checkpoint) / MODULE_PATH)
    assert module.forward_inference({"obs": prompts})["actions"] == told
