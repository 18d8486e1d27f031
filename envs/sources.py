"""The setting `path`: which files or data sets problems are read from."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rllib_dapo.envs.text_files import PACKED, unpacked_stem, unpacked_suffix

if TYPE_CHECKING:
    from collections.abc import Sequence

PathLike: TypeAlias = str | os.PathLike[str]

SUFFIXES: Final = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv")
KINDS: Final = (
    f"known endings: {' '.join(SUFFIXES)}; of all but .parquet also packed, as .jsonl.gz "
    f"({' '.join(PACKED)})"
)
_KEYS = ("dataset", "name", "split", "revision")
_MOST_FILES: Final = 10_000
_SAVED = ("state.json", "dataset_dict.json")  # what `save_to_disk` of the library datasets writes
_NO_ROWS = ("dataset_info.json", "dataset_infos.json", "package.json", "config.json")
_SPLIT = re.compile(r"(?<![a-z])(train|training|test|val|valid|validation|dev|eval)(?![a-z])")


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
        return unpacked_stem(self.path)

    @property
    def suffix(self) -> str:
        """The ending that tells its kind, in small letters and without that of a packed file."""
        return unpacked_suffix(self.path)

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
# What one entry of the setting stands for: one source, or the files that a pattern matches.
Entry: TypeAlias = tuple[Source, ...]
PathSetting: TypeAlias = "PathLike | Mapping[str, Any] | Sequence[PathLike | Mapping[str, Any]]"


def find_sources(path: PathSetting) -> tuple[Entry, ...]:
    """Returns what the setting `path` names: a file, a Hugging Face data set, or a list of such.

    Args:
        path: A file with one of the endings `SUFFIXES`, packed or not (`~` is the home directory);
            a pattern such as `data/train-*.parquet`; a folder of such files; a mapping such as
            `{"dataset": "openai/gsm8k", "name": "main", "split": "train"}`; or a list of these.

    Returns:
        The sources of each entry of the list, in the order of the list; of files, by name.

    Raises:
        FileNotFoundError: If a file is not there, or a pattern matches none.
        ValueError: If it is none of these.
    """
    listed: list[Any] = list(path) if isinstance(path, list | tuple) else [path]
    if not listed or not all(isinstance(one, str | os.PathLike | Mapping) for one in listed):
        raise ValueError(
            f"path={path!r}: must be a .parquet, .jsonl, .json or .csv file, a pattern or a folder "
            'of such files, {"dataset": NAME} for a Hugging Face data set, or a list of these'
        )
    return tuple((_hub(one),) if isinstance(one, Mapping) else _files(one) for one in listed)


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


def _files(path: PathLike) -> Entry:
    given = Path(path).expanduser()
    if given.is_dir():
        return _of_folder(given, path)
    if not given.is_file() and glob.has_magic(str(given)):
        return _matching(given, path)
    if not given.is_file():
        raise FileNotFoundError(
            f"path={str(path)!r}: no such file (looked at {given.absolute()}); "
            "give an absolute path that exists on every machine of the cluster"
        )
    return (_file(given),)


def _file(path: Path) -> FileSource:
    stat = path.stat()
    return FileSource(path=path.absolute(), modified=stat.st_mtime_ns, size=stat.st_size)


def _matching(pattern: Path, path: PathLike) -> Entry:
    found = sorted(Path(one) for one in glob.iglob(str(pattern), recursive=True))
    files = [one for one in found if one.is_file()]
    if not files:
        raise FileNotFoundError(
            f"path={str(path)!r}: no file matches (looked for {pattern.absolute()})"
        )
    return _checked(files, path)


def _of_folder(folder: Path, path: PathLike) -> Entry:
    if any((folder / name).is_file() for name in _SAVED):
        return (HubSource(dataset=str(folder)),)

    files = sorted(
        one
        for one in folder.rglob("*")
        if unpacked_suffix(one) in SUFFIXES
        and one.name not in _NO_ROWS
        and not any(part.startswith((".", "_")) for part in one.relative_to(folder).parts)
        and one.is_file()
    )
    if not files:
        raise ValueError(
            f"path={str(path)!r}: is a folder; name the file in it, for none has a known ending; "
            f"{KINDS}"
        )

    # Training on what is to be held out would be the worst way to read a folder.
    splits = sorted(
        {match[1] for one in files for match in _SPLIT.finditer(_name_in(folder, one).casefold())}
    )
    if len(splits) > 1:
        raise ValueError(
            f"path={str(path)!r}: is a folder with files of several splits ({', '.join(splits)}); "
            f"name those to read, as in {str(folder / '**' / '*train*')!r}"
        )
    return _checked(files, path)


def _name_in(folder: Path, file: Path) -> str:
    return str(file.relative_to(folder))


def _checked(files: Sequence[Path], path: PathLike) -> Entry:
    if len(files) > _MOST_FILES:
        raise ValueError(f"path={str(path)!r}: means {len(files)} files, more than {_MOST_FILES}")
    return tuple(_file(file) for file in files)
