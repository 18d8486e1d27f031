import csv
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LONGEST_WAIT = 120.0  # seconds; only where something is broken is it waited for so long


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """Finds a file of real problems, which this repository does not ship."""

    def find(name: str) -> Path:
        file = SHARED_DATA / name
        if not file.is_file():
            pytest.skip(f"needs real problems in {file}")
        return file

    return find


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Waits until a condition holds: what another process does takes as long as it takes."""

    def wait(condition: Callable[[], object]) -> None:
        until = time.monotonic() + LONGEST_WAIT
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.01)

    return wait


@pytest.fixture
def write_file() -> Callable[..., Path]:
    """Writes rows in the form that the path's ending asks for: `write_file(path, *rows)`."""

    def write(path: Path, *rows: Mapping[str, Any]) -> Path:
        if path.suffix == ".parquet":
            import pyarrow as pa
            from pyarrow import parquet

            parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
        elif path.suffix == ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def pairs_of() -> Callable[[Any], list[tuple[str, str]]]:
    """Reads a data set as pairs of prompt and answer."""
    from rllib_dapo.envs.datasets import load_dataset

    def read(source: Any) -> list[tuple[str, str]]:
        return [(problem.prompt, problem.answer) for problem in load_dataset(source).problems]

    return read
