"""What `rllib-dapo report` does: read a run's folder, write its page and, if asked, its figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from rllib_dapo.reporting.compared_runs import compared_runs, read_runs
from rllib_dapo.reporting.own_files import refuse_others_files
from rllib_dapo.reporting.render_page import link_from, no_link, render_page
from rllib_dapo.reporting.report_content import report_content
from rllib_dapo.reporting.stored_run import StoredRun
from rllib_dapo.run.delayed_lines import DelayedLines


def write_report(
    *folders: str,
    output: Path | None = None,
    json_file: Path | None = None,
    csv_file: Path | None = None,
    metric: str | None = None,
    mode: Literal["max", "min"] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Writes the page of one or more runs, and its figures if asked for.

    Args:
        *folders: Folders or URIs of the runs.
        output: Path of the page; by default `report.html` in the run's folder, or a file in the
            current folder if the run's folder is not on this machine. For several runs it is
            `comparison.html` in the current folder.
        json_file: Where to write the whole content of the report, with every point of every curve.
        csv_file: Where to write `ResultGrid.get_dataframe()`; of several runs one below another,
            with a column `run`.
        metric: Metric by which trials are compared; see `read_run`.
        mode: Whether a higher or a lower value is better; see `read_run`.
        say: Receives lines about progress, if writing takes long.

    Returns:
        The path of the page.

    Raises:
        SettingsError: If a folder holds no run, or a file is there that no report has written.
        OSError: If a file cannot be written.
    """
    progress = DelayedLines(say)
    files = {"--output": output, "--json": json_file, "--csv": csv_file}
    refuse_others_files({option: _absolute(file) for option, file in files.items() if file})
    runs = read_runs(folders, metric=metric, mode=mode, say=progress)

    path = _absolute(output) if output else default_page_path(runs)
    if output is None:
        refuse_others_files({"--output": path})
    link = link_from(path) if all(run.is_local for run in runs) else no_link
    content = report_content(*runs, link=link, say=progress)
    progress("writing the page")
    _write(path, render_page(content))

    if json_file:
        everything = report_content(*runs, link=None)
        _write(_absolute(json_file), json.dumps(everything, indent=1, allow_nan=False) + "\n")
    if csv_file:
        _write(_absolute(csv_file), compared_runs(runs).together.table.to_csv(index=False))

    return path


def default_page_path(runs: Sequence[StoredRun]) -> Path:
    """Where the page of these runs is written unless told otherwise."""
    if len(runs) > 1:
        return Path("comparison.html").absolute()
    (run,) = runs
    return Path(run.folder, "report.html") if run.is_local else Path(f"{run.name}.html").absolute()


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A model may have written half of a surrogate pair, which no encoding can hold.
    path.write_text(text, encoding="utf-8", errors="replace")
