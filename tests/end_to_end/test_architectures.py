"""Every architecture of the table is right or refused, and the page says so."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).parents[2]
WRITTEN = {
    row["name"]: row for row in json.loads((REPO / "docs" / "architectures.json").read_text())
}
# Tried here; the command tries all. They differ in what is converted, tied, capped or windowed.
TRIED = ("Qwen3-MoE", "Llama, tied", "Gemma 2", "GPT-NeoX", "Phi-3, window", "Cohere 2", "gpt-oss")


@pytest.fixture(scope="module")
def tools() -> Iterator[None]:
    """The modules of `tools/` that the command is made of."""
    sys.path.insert(0, str(REPO / "tools"))
    yield
    sys.path.remove(str(REPO / "tools"))


@pytest.fixture(scope="module")
def engine(tools: None) -> Iterator[Any]:
    """A process with vLLM."""
    from architecture_engines import EngineProcess

    process = EngineProcess()
    yield process
    process.close()


def test_the_page_has_what_the_command_wrote(tools: None) -> None:
    from architecture_table import MARKS, PAGE, markdown
    from architecture_trial import Row
    from architectures import ARCHITECTURES

    rows = [Row(**row) for row in WRITTEN.values()]
    assert [row.name for row in rows] == list(ARCHITECTURES)
    assert len(rows) >= 15
    assert all(row.is_right_or_refused() for row in rows)
    assert MARKS[0] + markdown(rows) + MARKS[1] in PAGE.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_an_architecture_is_right_or_refused(
    engine: Any, tmp_path: Path, one_thread: None, name: str
) -> None:
    from architecture_trial import try_architecture

    row = try_architecture(name, engine=engine, folder=tmp_path)
    assert row.is_right_or_refused(), row.results
    written = WRITTEN[name]["results"]
    kinds = {column: type(value) for column, value in row.results.items()}
    assert kinds == {column: type(value) for column, value in written.items()}
