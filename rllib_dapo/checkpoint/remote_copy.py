"""Checkpoints wherever they lie: used in place on this machine, elsewhere copied as a whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pyarrow
import pyarrow.fs

from rllib_dapo.learner.model_folder import MODULE_PATH

_LOCAL = "file://"


@contextmanager
def local_folder(
    path: str | Path,
    filesystem: pyarrow.fs.FileSystem | None = None,
    *,
    purpose: Literal["save", "restore"],
) -> Iterator[Path]:
    """Gives the folder itself where it is on this machine, else a temporary one.

    Args:
        path: Folder, which may be relative or begin with `~`, or a URI.
        filesystem: PyArrow file system of `path`; by default that of the URI, or the local one.
        purpose: To save, the temporary folder is empty and is copied to `path` in the end, unless
            the caller raises. To restore, it has what `path` holds.

    Raises:
        ValueError: If there is no file system for a URI; one line.
    """
    filesystem, place = locate(path, filesystem)
    if filesystem is None:
        yield Path(place)
        return

    with tempfile.TemporaryDirectory(prefix="rllib-dapo-") as temporary:
        if purpose == "restore":
            pyarrow.fs.copy_files(place, temporary, source_filesystem=filesystem)
        yield Path(temporary)
        if purpose == "save":
            filesystem.create_dir(place, recursive=True)
            pyarrow.fs.copy_files(temporary, place, destination_filesystem=filesystem)


@contextmanager
def local_model(name: str | Path) -> Iterator[Path | None]:
    """Gives a folder on this machine with what a URI of a model or a checkpoint holds.

    Args:
        name: A URI, or any other name of a model or checkpoint.

    Yields:
        The folder: that of a local URI itself, else a temporary copy. Of a checkpoint the copy has
        the model alone. None where the name is not a URI.

    Raises:
        ValueError: If there is nothing; one line.
    """
    if not is_uri(name):
        yield None
        return

    filesystem, place = locate(name)
    if filesystem is None:
        yield Path(place)
        return
    place = place.rstrip("/")
    with tempfile.TemporaryDirectory(prefix="rllib-dapo-") as temporary:
        for below in (MODULE_PATH, Path()):
            source = f"{place}/{below.as_posix()}" if below.parts else place
            if filesystem.get_file_info(source).type is pyarrow.fs.FileType.Directory:
                (Path(temporary) / below).mkdir(parents=True, exist_ok=True)
                pyarrow.fs.copy_files(
                    source, str(Path(temporary) / below), source_filesystem=filesystem
                )
                break
        else:
            raise ValueError(f"{name}: there is no such folder")
        yield Path(temporary)


def locate(
    path: str | Path, filesystem: pyarrow.fs.FileSystem | None = None
) -> tuple[pyarrow.fs.FileSystem | None, str]:
    """Finds out where a folder is.

    Args:
        path: Folder or its URI.
        filesystem: PyArrow file system of `path`; by default that of the URI, or the local one.

    Returns:
        The file system and the path on it. On this machine's own the file system is None and the
        path is absolute.

    Raises:
        ValueError: If there is no file system for a URI; one line.
    """
    place = str(path)
    if filesystem is None and place.startswith(_LOCAL) and "%" not in place:
        place = place.removeprefix(_LOCAL)  # PyArrow refuses one with a space
    elif filesystem is None and is_uri(path):
        try:
            filesystem, place = pyarrow.fs.FileSystem.from_uri(place)
        except (pyarrow.ArrowException, OSError) as error:
            told = " ".join(str(error).split())
            raise ValueError(f"{path}: no such place: {told}") from error

    if filesystem is None or isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        return None, str(Path(place).expanduser().absolute())
    return filesystem, place


def is_uri(path: str | Path) -> bool:
    """Whether this is a URI rather than a path, such as `s3://bucket/run` or `file:///run`."""
    return "://" in str(path)
