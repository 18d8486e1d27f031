"""Gymnasium's games as text, as the example trains on them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "gymnasium_text.py"


@pytest.mark.slow
def test_a_game_of_gymnasium_trains_as_text(
    run_python: Callable[..., subprocess.CompletedProcess[str]], raw_model: Path, tmp_path: Path
) -> None:
    done = run_python(EXAMPLE, "CliffWalking-v1", raw_model, "2", "transformers", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("iteration ")]
    assert len(lines) == 2
    assert all(line.endswith("missing 0.000") for line in lines)
