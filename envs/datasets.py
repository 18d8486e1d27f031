"""Problem files as a tuple of problems: read, cleaned and counted."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.readers import final_answer, read_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

PathLike: TypeAlias = str | os.PathLike[str]
_Stamp: TypeAlias = tuple[Path, int, int]  # what changes when a file is written anew: path, time, size


# Compared by identity: comparing two data sets text by text is never what one wants to wait for.
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dataset:
    """The problems of one or more files.

    Attributes:
        problems: In the order of the files, each prompt once.
        duplicates: Rows left out because an earlier row has the same prompt.
        conflicts: Those of the duplicates whose answer differs from the one that was kept.
        incomplete: Rows left out because they have no prompt or no answer.
    """

    problems: tuple[Problem, ...]
    duplicates: int
    conflicts: int
    incomplete: int


def load_dataset(path: PathLike | Sequence[PathLike]) -> Dataset:
    """Reads a Parquet or JSON-lines file, or several as if they were one.

    The schema is told from the columns of each file. Published files repeat themselves (DAPO-Math-17k holds each of its
    problems about a hundred times); every prompt is kept once. A file that this process has read before and that
    has not changed since is not read again.

    Args:
        path: The setting ``path``: a file, or a list of files. ``~`` is the home directory.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a file cannot be read, or no complete problem is in any of them.
    """
    return _load(tuple(_stamp(one) for one in _as_list(path)))


def _as_list(path: Any) -> list[PathLike]:
    paths = [path] if isinstance(path, str | os.PathLike) else path
    if not isinstance(paths, list | tuple) or not paths or not all(isinstance(p, str | os.PathLike) for p in paths):
        raise ValueError(f"path={path!r}: must be a .parquet, .jsonl or .json file, or a list of such files")
    return list(paths)


def _stamp(path: PathLike) -> _Stamp:
    file = Path(path).expanduser()
    if file.is_dir():
        raise ValueError(f"path={str(path)!r}: is a folder; name the file in it, or list several files")
    if not file.is_file():
        raise FileNotFoundError(
            f"path={str(path)!r}: no such file (looked at {file.absolute()}); "
            "give an absolute path that exists on every machine of the cluster"
        )
    stat = file.stat()
    return file.absolute(), stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=8)
def _load(files: tuple[_Stamp, ...]) -> Dataset:
    kept: dict[str, Problem] = {}
    duplicates = conflicts = incomplete = 0
    for path, _, _ in files:
        for number, (text, raw_answer, identity) in enumerate(read_rows(path)):
            prompt, answer = (text or "").strip(), final_answer(raw_answer)
            if not prompt or not answer:
                incomplete += 1
            elif prompt in kept:
                duplicates += 1
                conflicts += kept[prompt].answer != answer
            else:
                name = f"{path.stem}/{number if identity is None else identity}"
                kept[prompt] = Problem(prompt=prompt, answer=answer, problem_id=name)
    names = ", ".join(str(path) for path, _, _ in files)
    if not kept:
        raise ValueError(
            f"path={names!r}: no problem in it ({incomplete} rows without prompt or answer); "
            "the file must have at least one row with both"
        )
    logger.info(
        "%s: %d problems; left out %d duplicates (%d of them with another answer) and %d incomplete rows",
        *(names, len(kept), duplicates, conflicts, incomplete),
    )
    return Dataset(problems=tuple(kept.values()), duplicates=duplicates, conflicts=conflicts, incomplete=incomplete)
