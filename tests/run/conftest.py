"""A data set for run files, and a process in which no Ray runs."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import ray


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    """A data set of ten small problems."""
    path = tmp_path / "problems.jsonl"
    path.write_text(
        "".join(json.dumps({"question": f"{n}+1?", "answer": str(n + 1)}) + "\n" for n in range(10))
    )
    return path


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a shell's process: the Ray of another test is not there."""
    importlib.import_module("rllib_dapo.algorithm")  # registers itself with the Ray that is there

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
