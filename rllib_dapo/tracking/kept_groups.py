"""Groups that were sampled ahead, in a checkpoint: they need not be sampled again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from rllib_dapo.core.types import PromptGroup
from rllib_dapo.tracking.group_table import from_table, to_table

FILE = "kept_groups.parquet"


def write_kept(folder: Path, groups: Sequence[PromptGroup], *, number: int) -> None:
    """Writes groups into a checkpoint; nothing where there are none.

    Args:
        folder: Folder of the checkpoint.
        groups: The groups.
        number: Number of weight updates so far.
    """
    if groups:
        pq.write_table(to_table(groups, number=number), folder / FILE)


def read_kept(folder: Path) -> list[PromptGroup]:
    """The groups of a checkpoint; none where it has no such file.

    Args:
        folder: Folder of the checkpoint.
    """
    file = folder / FILE
    return from_table(pq.read_table(file)) if file.is_file() else []
