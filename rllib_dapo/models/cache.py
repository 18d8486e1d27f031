"""Model folders that are made once and kept."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_QUIET_S = 2.0  # what is done sooner needs no line
_LINE_EVERY_S = 10.0


def default_cache_dir() -> Path:
    """Returns ``$RLLIB_DAPO_CACHE``, or else ``~/.cache/rllib_dapo``."""
    return Path(os.environ.get("RLLIB_DAPO_CACHE") or "~/.cache/rllib_dapo").expanduser().absolute()


def cached_folder(
    name: str, build: Callable[[Path], None], *, cache_dir: Path | None = None
) -> Path:
    """Returns the folder ``name`` of the cache, made by ``build`` where it is missing.

    The folder appears whole or not at all, and processes that ask at the same time wait for the one
    that makes it.

    Args:
        name: The folder's name; it must change with anything the content depends on.
        build: Writes a model into the empty folder it is given.
        cache_dir: Where to keep it. None: `default_cache_dir`.
    """
    # Comes with transformers, which nothing here needs where the folder is there already.
    from filelock import FileLock

    root = default_cache_dir() if cache_dir is None else cache_dir.expanduser().absolute()
    folder = root / name
    if (folder / "config.json").is_file():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"):
        if not (folder / "config.json").is_file():
            _build_whole(folder, build)
    return folder


def _build_whole(folder: Path, build: Callable[[Path], None]) -> None:
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    for leftover in (unfinished, folder):  # of a killed process; of a hand that emptied the folder
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir()
    build(unfinished)
    os.replace(unfinished, folder)


class Progress:
    """Writes how far something is to stderr, once it has taken two seconds."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = self._last = time.monotonic()

    def __call__(self, state: str) -> None:
        """Writes a line, unless it is too soon after the start or the line before."""
        now = time.monotonic()
        first = self._last == self._started
        if now - self._last >= (_QUIET_S if first else _LINE_EVERY_S):
            sys.stderr.write(f"{self._what}: {state}, {now - self._started:.0f} s\n")
            sys.stderr.flush()
            self._last = now
