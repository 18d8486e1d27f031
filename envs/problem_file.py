"""Files of problems that commands write: JSON lines or Parquet, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_dapo.envs.messages import as_conversation, as_messages

SUFFIXES = (".jsonl", ".parquet")


def check_target(target: Path) -> None:
    """Refuses a file that could not be written.

    Args:
        target: Path of the file.

    Raises:
        ValueError: If its ending is unknown; one line.
    """
    if target.suffix not in SUFFIXES:
        raise ValueError(f"{target}: must end in .jsonl or .parquet")


def write_problems(
    rows: Sequence[Mapping[str, Any]], target: Path, *, prompt: str = "question"
) -> None:
    """Writes rows; the file appears when it is complete.

    Args:
        rows: At least one row.
        target: Path of the `.jsonl` or `.parquet` file; its folder is created if absent.
        prompt: Name of the column with the prompt, a text or a conversation. A column of Parquet
            holds values of one kind, so all are messages where one is.
    """
    rows = _one_kind(rows, prompt)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.suffix == ".jsonl":
            lines = (json.dumps(row) + "\n" for row in rows)
            unfinished.write_text("".join(lines), encoding="utf-8")
        else:
            import pyarrow
            from pyarrow import parquet

            parquet.write_table(pyarrow.Table.from_pylist(list(rows)), unfinished)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def _one_kind(rows: Sequence[Mapping[str, Any]], prompt: str) -> list[Mapping[str, Any]]:
    if all(isinstance(row[prompt], str) for row in rows):
        return list(rows)
    return [{**row, prompt: as_messages(as_conversation(row[prompt]))} for row in rows]
