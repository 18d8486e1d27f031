"""What `rllib-dapo report` does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from rllib_dapo.reporting.content import content
from rllib_dapo.reporting.page import link_from, no_link, page
from rllib_dapo.reporting.read import Run, read_run

PATIENCE_S = 2.0


class Progress:
    """Passes lines on once it has taken a while, and then not too many of them."""

    def __init__(self, say: Callable[[str], None], *, patience_s: float = PATIENCE_S) -> None:
        """Starts the clock.

        Args:
            say: Prints a line.
            patience_s: How long nothing is said, at the start and between lines.
        """
        self._say = say
        self._patience_s = patience_s
        self._last = time.monotonic()

    def __call__(self, line: str) -> None:
        """Prints a line if it is time."""
        if time.monotonic() - self._last >= self._patience_s:
            self._say(line)
            self._last = time.monotonic()


def write_report(
    folder: str,
    *,
    output: Path | None = None,
    json_file: Path | None = None,
    csv_file: Path | None = None,
    metric: str | None = None,
    mode: Literal["max", "min"] = "max",
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Writes a run's page, and its figures if asked for.

    Args:
        folder: The run's folder or URI.
        output: The page; `report.html` in the run's folder if not given, or here if that folder is not local.
        json_file: All of the report's content, with every point of every curve.
        csv_file: `ResultGrid.get_dataframe()`.
        metric: See `read_run`.
        mode: See `read_run`.
        say: Is told how far it is, if it takes long.

    Returns:
        The page's path.

    Raises:
        SettingsError: If there is no run.
        OSError: If a file cannot be written.
    """
    progress = Progress(say)
    run = read_run(folder, metric=metric, mode=mode, say=progress)
    path = _absolute(output) if output else _usual_page(run)
    data = content(run, link=link_from(path) if run.is_local else no_link, say=progress)
    progress("writing the page")
    _write(path, page(data))
    if json_file:
        _write(_absolute(json_file), json.dumps(content(run, link=None), indent=1, allow_nan=False) + "\n")
    if csv_file:
        _write(_absolute(csv_file), run.table.to_csv(index=False))
    return path


def _usual_page(run: Run) -> Path:
    return Path(run.folder, "report.html") if run.is_local else Path(f"{run.name}.html").absolute()


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="replace")
