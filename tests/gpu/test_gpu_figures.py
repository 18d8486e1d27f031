"""The page of figures from a machine with GPUs; without one, the same steps with a tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rllib_dapo.capacity.this_machine import this_machine

REPO = Path(__file__).parents[2]


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, str(REPO / "benchmarks" / "gpu.py"), *options],
        env=environment | {"PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=1800,
        check=False,
    )


@pytest.mark.gpu
@pytest.mark.timeout(2000)
def test_both_sides_agree_and_a_learner_takes_what_was_planned() -> None:
    result = _run()
    assert result.returncode == 0, result.stdout

    page = json.loads((REPO / "benchmarks" / "results" / "gpu.json").read_text())
    tried = [case for case in page["cases"] if not case["reason"]]
    assert tried
    for case in tried:
        assert case["gap_mean_nats"] < 0.05, case
        assert case["learner_peak_gib"] == pytest.approx(case["planned_learner_gib"], rel=0.3)


@pytest.mark.slow
def test_the_page_is_made_without_a_gpu_too() -> None:
    result = _run("--cpu")
    assert result.returncode == 0, result.stdout
    for name in ("gap_mean_nats", "sampled_tokens_per_s", "trained_tokens_per_s", "weights_s"):
        assert f"\n  {name} " in result.stdout


@pytest.mark.slow
def test_without_a_gpu_it_says_why_it_does_nothing() -> None:
    if this_machine().gpus:
        pytest.skip("there is a GPU here")
    result = _run()
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 1)
    assert "skipped: no GPU here" in result.stdout
