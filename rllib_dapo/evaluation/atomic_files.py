"""Files that are written whole or not at all: a kill or a power cut leaves no half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


def write_table(
    rows: Sequence[Mapping[str, Any]],
    path: Path,
    columns: Mapping[str, str],
    metadata: dict[bytes, bytes] | None = None,
) -> None:
    """Writes a Parquet file.

    Args:
        rows: Rows, each by column name.
        path: Path of the file; its folder is created if absent.
        columns: Names of the columns, and Arrow's names of their types.
        metadata: Metadata to keep in the file.
    """
    import pyarrow.parquet

    table = make_table(rows, columns).replace_schema_metadata(metadata)
    with _replaced_when_complete(path) as unfinished:
        pyarrow.parquet.write_table(table, unfinished)


def write_text(text: str, path: Path) -> None:
    """Writes a text file; its folder is created if absent."""
    with _replaced_when_complete(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def make_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pyarrow.Table:
    """Makes an Arrow table, see `write_table`."""
    import pyarrow

    return pyarrow.Table.from_pylist(list(rows), schema=make_schema(columns))


def make_schema(columns: Mapping[str, str]) -> pyarrow.Schema:
    """Makes an Arrow schema, see `write_table`."""
    import pyarrow

    return pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in columns.items()])


@contextmanager
def _replaced_when_complete(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, and renames it to `path` when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    yield unfinished
    os.replace(unfinished, path)
