"""Files that commands write: none is put where something else already is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that are there already.")
]


def new_files(named: Mapping[str, Path | None], *, overwrite: bool) -> list[Path | None]:
    """Makes sure, before any work, that files can be written and replace nothing.

    Args:
        named: Paths by the option or argument that names them; None for what is not wanted.
        overwrite: Whether files may be replaced. A folder never is.

    Returns:
        The absolute paths, in the same order.

    Raises:
        SettingsError: For the first path that cannot be written, or holds something; one line.
    """
    from rllib_dapo.findings import SettingsError

    paths: list[Path | None] = []
    for option, path in named.items():
        if path is None:
            paths.append(None)
            continue

        file = path.expanduser().absolute()
        if file in paths:
            raise SettingsError(f"{option} {path}: another option names this file, too")
        if problem := _problem_with(file, overwrite=overwrite):
            raise SettingsError(f"{option} {path}: {problem}")
        paths.append(file)
    return paths


def _problem_with(file: Path, *, overwrite: bool) -> str | None:
    if file.is_dir():
        return "this is a folder: name a file"
    if file.exists() and not overwrite:
        return "exists already: name another file, or add --overwrite"

    there = next(parent for parent in file.parents if parent.exists())
    if not there.is_dir():
        return f"{there} is a file, not a folder"
    if not os.access(file if file.exists() else there, os.W_OK):
        return f"no permission to write to {there}"
    return None
