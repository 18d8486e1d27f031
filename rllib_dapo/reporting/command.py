"""What `rllib-dapo report` does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from rllib_dapo.reporting.content import content
from rllib_dapo.reporting.html_page import link_from, no_link, page
from rllib_dapo.reporting.read import Run, read_run
from rllib_dapo.run.delayed_lines import PatientLines


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
        output: The page; `report.html` in the run's folder if not given, or here if that folder is
            not local.
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
    progress = PatientLines(say)
    run = read_run(folder, metric=metric, mode=mode, say=progress)
    path = _absolute(output) if output else _usual_page(run)
    data = content(run, link=link_from(path) if run.is_local else no_link, say=progress)
    progress("writing the page")
    _write(path, page(data))
    if json_file:
        _write(
            _absolute(json_file),
            json.dumps(content(run, link=None), indent=1, allow_nan=False) + "\n",
        )
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
