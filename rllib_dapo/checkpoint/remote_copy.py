"""Checkpoints on other file systems: written and read in a local folder, and copied as a whole."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs


@contextmanager
def folder_to_save(path: str | Path, filesystem: pyarrow.fs.FileSystem | None) -> Iterator[Path]:
    """Gives a local folder to save into, and copies it to `path` where that is not local.

    Nothing is copied if the caller raises.

    Args:
        path: Folder or its URI.
        filesystem: PyArrow file system of `path`; by default that of the URI, or the local one.
    """
    if not _is_remote(path, filesystem):
        yield Path(path).absolute()
        return

    filesystem, target = _resolve(path, filesystem)
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
        pyarrow.fs.copy_files(temporary, target, destination_filesystem=filesystem)


@contextmanager
def folder_to_restore(path: str | Path, filesystem: pyarrow.fs.FileSystem | None) -> Iterator[Path]:
    """Gives a local folder with what `path` holds: a temporary copy where `path` is not local.

    Args:
        path: Folder or its URI.
        filesystem: PyArrow file system of `path`; by default that of the URI, or the local one.
    """
    if not _is_remote(path, filesystem):
        yield Path(path).absolute()
        return

    filesystem, source = _resolve(path, filesystem)
    with tempfile.TemporaryDirectory() as temporary:
        pyarrow.fs.copy_files(source, temporary, source_filesystem=filesystem)
        yield Path(temporary)


def _is_remote(path: str | Path, filesystem: pyarrow.fs.FileSystem | None) -> bool:
    return filesystem is not None or "://" in str(path)


def _resolve(
    path: str | Path, filesystem: pyarrow.fs.FileSystem | None
) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system, and the path on it."""
    return (filesystem, str(path)) if filesystem else pyarrow.fs.FileSystem.from_uri(str(path))
