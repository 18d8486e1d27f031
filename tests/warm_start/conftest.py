"""Files of records, and what a command of this room is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rllib_dapo.models import load_tokenizer


@pytest.fixture(autouse=True)
def _tiny_tensors(one_thread: None) -> None:
    """All tests of this room compute with tiny tensors."""


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of JSON lines; a text is a line as it stands."""

    def write(rows: Sequence[Any], name: str = "records.jsonl") -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        file = tmp_path / name
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return file

    return write


@pytest.fixture
def sums() -> list[dict[str, str]]:
    """All sums of two numbers from 0 to 5, as records."""
    return [{"prompt": f"{a}+{b}=", "response": str(a + b)} for a in range(6) for b in range(6)]


@pytest.fixture(scope="session")
def raw_tokenizer(raw_model: Path) -> Any:
    return load_tokenizer(raw_model)
