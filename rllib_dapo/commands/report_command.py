"""`rllib-dapo report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from rllib_dapo.commands.command_line import refusals
from rllib_dapo.commands.output_files import OverwriteOption, new_files


def report(
    run_dir: Annotated[
        str, typer.Argument(metavar="RUN_DIR", help="A run's folder or URI, as `train` prints it.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page. [default: report.html in the run's folder]"),
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
) -> None:
    """Make one HTML page of a run or sweep, which opens without a network."""
    from rllib_dapo.reporting.write_report import write_report
    from rllib_dapo.run.quiet_ray import silence

    silence()
    with refusals(OSError):
        output, json_file, csv_file = new_files(
            {"--output": output, "--json": json_file, "--csv": csv_file}, overwrite=overwrite
        )
        page = write_report(
            run_dir,
            output=output,
            json_file=json_file,
            csv_file=csv_file,
            metric=metric,
            mode=mode,
            say=typer.echo,
        )
    typer.echo(f"report: {page}")
