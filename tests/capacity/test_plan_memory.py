"""The plan beside a Learner that really trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("side", ["learner", "learner, checkpointing"])
def test_a_learners_peak_is_what_was_planned(side: str) -> None:
    """In a process of its own, whose peak does not depend on what this one has loaded."""
    result = subprocess.run(
        [sys.executable, str(REPO / "benchmarks" / "plan_memory.py"), side, "random-32m"],
        env={**os.environ, "PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=800,
    )
    figures = json.loads(result.stdout.splitlines()[-1])
    assert figures["planned_mib"] == pytest.approx(figures["peak_mib"], rel=0.2)
