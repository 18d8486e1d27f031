"""A cache of model folders that are made once and kept."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_QUIET_S = 2.0  # faster builds write nothing
_LINE_EVERY_S = 10.0


def default_cache_dir() -> Path:
    """Returns `$RLLIB_DAPO_CACHE`, or else `~/.cache/rllib_dapo`."""
    return Path(os.environ.get("RLLIB_DAPO_CACHE") or "~/.cache/rllib_dapo").expanduser().absolute()


def cached_folder(
    name: str, build: Callable[[Path], None], *, cache_dir: Path | None = None
) -> Path:
    """Returns the folder `name` of the cache, made by `build` where it does not exist yet.

    The folder appears whole or not at all. Processes that ask for it at the same time wait for the
    one that makes it.

    Args:
        name: Name of the folder. It must change with everything the content depends on.
        build: Writes a model into the empty folder it is given.
        cache_dir: The cache; None means `default_cache_dir`.
    """
    # Imported here because it comes with transformers' dependencies and is rarely needed.
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
    # A killed process may have left the one; somebody may have emptied the other.
    for leftover in (unfinished, folder):
        shutil.rmtree(leftover, ignore_errors=True)

    unfinished.mkdir()
    build(unfinished)
    os.replace(unfinished, folder)


class BuildProgress:
    """Writes the state of a build to stderr, once it has taken two seconds."""

    def __init__(self, what: str) -> None:
        """Starts the clock.

        Args:
            what: Name of the build, which begins every line.
        """
        self._what = what
        self._started = self._last = time.monotonic()

    def __call__(self, state: str) -> None:
        """Writes a line, unless it is too soon after the start or the previous line."""
        now = time.monotonic()
        is_first = self._last == self._started
        if now - self._last >= (_QUIET_S if is_first else _LINE_EVERY_S):
            sys.stderr.write(f"{self._what}: {state}, {now - self._started:.0f} s\n")
            sys.stderr.flush()
            self._last = now
