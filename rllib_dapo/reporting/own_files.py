"""A report is written over a report of before, and over nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rllib_dapo.findings import SettingsError

_HEAD_BYTES = 100_000
# What stands near the beginning of each kind of file, by the option that names it.
_MARKS = {
    "--output": ("<!DOCTYPE html>", "default-src 'none'; script-src 'sha256-"),
    "--json": ('{\n "run": {\n  "name": ',),
    "--csv": ("trial_id", "logdir", "training_iteration"),
}


def refuse_others_files(paths: Mapping[str, Path]) -> None:
    """Refuses to write where something else lies already.

    Args:
        paths: Path of each file that is to be written, by the option that names it.

    Raises:
        SettingsError: For the first path that is a folder, a file that no report has written, or
            given twice.
    """
    taken: dict[Path, str] = {}
    for option, path in paths.items():
        if path in taken:
            raise SettingsError(f"{option} {path}: is also the file of {taken[path]}: name another")
        taken[path] = option

        if path.is_dir():
            raise SettingsError(f"{option} {path}: is a folder: name a file in it")
        if path.exists() and not _is_own(option, path):
            raise SettingsError(
                f"{option} {path}: is there already and is no report's: name another file, or "
                "remove that one"
            )


def _is_own(option: str, path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).decode("utf-8", errors="replace")
    return not head or all(mark in head for mark in _MARKS[option])
