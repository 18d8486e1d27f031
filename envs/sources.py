"""The setting `path`: which files or data sets problems are read from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

PathLike: TypeAlias = str | os.PathLike[str]

_KEYS = ("dataset", "name", "split", "revision")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSource:
    """A file as it was when it was looked at; equal only to the same file unchanged.

    Attributes:
        path: Absolute path of the file.
        modified: Time when it was last written, in nanoseconds.
        size: Size in bytes.
    """

    path: Path
    modified: int
    size: int

    @property
    def stem(self) -> str:
        """The beginning of problem ids."""
        return self.path.stem

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, kw_only=True, slots=True)
class HubSource:
    """A Hugging Face data set, read with the library `datasets`.

    Attributes:
        dataset: Its name on a hub, a folder of data files, or a folder written by `save_to_disk`.
        name: Name of one of its configurations.
        split: Name of one of its splits.
        revision: Branch, tag or commit of its repository.
    """

    dataset: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None

    @property
    def stem(self) -> str:
        """The beginning of problem ids."""
        return Path(self.dataset).name

    def __str__(self) -> str:
        return self.dataset


Source: TypeAlias = FileSource | HubSource
PathSetting: TypeAlias = "PathLike | Mapping[str, Any] | Sequence[PathLike | Mapping[str, Any]]"


def find_sources(path: PathSetting) -> tuple[Source, ...]:
    """Returns what the setting `path` names: a file, a Hugging Face data set, or a list of such.

    Args:
        path: A `.parquet`, `.jsonl`, `.json` or `.csv` file (`~` is the home directory),
            a mapping such as `{"dataset": "openai/gsm8k", "name": "main", "split": "train"}`, or
            a list of these.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If it is none of these.
    """
    listed: list[Any] = list(path) if isinstance(path, list | tuple) else [path]
    if not listed or not all(isinstance(one, str | os.PathLike | Mapping) for one in listed):
        raise ValueError(
            f"path={path!r}: must be a .parquet, .jsonl, .json or .csv file, "
            '{"dataset": NAME} for a Hugging Face data set, or a list of these'
        )
    return tuple(_hub(one) if isinstance(one, Mapping) else _file(one) for one in listed)


def _hub(given: Mapping[str, Any]) -> HubSource:
    known = all(
        key in _KEYS and (value is None or isinstance(value, str)) for key, value in given.items()
    )
    if not known or not given.get("dataset"):
        raise ValueError(
            f"path={dict(given)!r}: a Hugging Face data set is written {{'dataset': NAME}}, "
            f"with texts for any of {', '.join(_KEYS[1:])}"
        )
    return HubSource(**{key: value for key, value in given.items() if value is not None})


def _file(path: PathLike) -> FileSource:
    file = Path(path).expanduser()
    if file.is_dir():
        raise ValueError(
            f"path={str(path)!r}: is a folder; name the file in it, list several files, or write "
            f"{{'dataset': {str(path)!r}}} if the library datasets should read it"
        )
    if not file.is_file():
        raise FileNotFoundError(
            f"path={str(path)!r}: no such file (looked at {file.absolute()}); "
            "give an absolute path that exists on every machine of the cluster"
        )
    stat = file.stat()
    return FileSource(path=file.absolute(), modified=stat.st_mtime_ns, size=stat.st_size)
