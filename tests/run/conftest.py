"""A data set for run files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    """A data set of ten small problems."""
    path = tmp_path / "problems.jsonl"
    path.write_text(
        "".join(json.dumps({"question": f"{n}+1?", "answer": str(n + 1)}) + "\n" for n in range(10))
    )
    return path
