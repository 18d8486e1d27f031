"""`rllib-dapo report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rllib_dapo.commands.command_line import refusals
from rllib_dapo.commands.output_files import OverwriteOption, new_files


def report(
    run_dirs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_DIR...",
            help="A run's folder or URI, as `train` prints it. Several are compared on one page.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The page. [default: report.html in the run's folder; comparison.html in the "
            "current one for several runs]",
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Also write the page's figures to this file."),
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="FILE", help="Also write a table to this file, a row for each trial."
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Metric that compares trials. [default: the run's `tune.metric`]"),
    ] = None,
    mode: Annotated[
        Literal["max", "min"] | None,
        typer.Option(
            help="Whether more of the metric is better, or less. [default: the run's `tune.mode`]"
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    live: Annotated[
        bool,
        typer.Option(
            "--live", help="Serve the page on this machine while the run goes on, until Ctrl-C."
        ),
    ] = False,
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port for --live; 0 takes any free one."),
    ] = 0,
) -> None:
    """Make one HTML page of a run or sweep, or of several, which opens without a network."""
    from rllib_dapo.reporting.write_report import write_report
    from rllib_dapo.run.quiet_ray import silence

    silence()
    with refusals(OSError):
        output, json_file, csv_file = new_files(
            {"--output": output, "--json": json_file, "--csv": csv_file}, overwrite=overwrite
        )
        if live:
            _serve(run_dirs, [output, json_file, csv_file], metric=metric, mode=mode, port=port)
            return
        page = write_report(
            *run_dirs,
            output=output,
            json_file=json_file,
            csv_file=csv_file,
            metric=metric,
            mode=mode,
            say=typer.echo,
        )
    typer.echo(f"report: {page}")


def _serve(
    run_dirs: list[str],
    files: list[Path | None],
    *,
    metric: str | None,
    mode: Literal["max", "min"] | None,
    port: int,
) -> None:
    """Serves the page until Ctrl-C, which is how it is meant to end."""
    from rllib_dapo.findings import SettingsError
    from rllib_dapo.reporting.live_run import LiveRun
    from rllib_dapo.reporting.live_server import LiveServer

    if any(files):
        raise SettingsError("--live: serves the page and writes no file: leave out the others")
    with LiveServer(LiveRun(run_dirs, metric=metric, mode=mode), port=port) as server:
        typer.echo(f"report: {server.url}")
        typer.echo("Ctrl-C ends it.")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended")
