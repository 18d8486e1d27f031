"""`rllib-dapo dashboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_dapo.commands.command_line import echo_lines, refusals
from rllib_dapo.commands.output_files import OverwriteOption, new_files


def dashboard(
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Address of a Ray cluster's head. [default: the one that runs here]",
        ),
    ] = None,
    prometheus: Annotated[
        str, typer.Option(metavar="URL", help="Where Prometheus is, or will be.")
    ] = "http://localhost:9090",
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Only write Grafana's JSON to this file, to be imported."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Prepare Prometheus and Grafana for the Ray that runs here, and say how to look at it."""
    from rllib_dapo.dashboards import provision
    from rllib_dapo.run.quiet_ray import silence
    from rllib_dapo.run.ray_address import check_ray_address

    silence()
    with refusals():
        (written_json,) = new_files({"--json": json_file}, overwrite=overwrite)
    if written_json is not None:
        provision.write_json(written_json)
        typer.echo(f"Grafana dashboard: {json_file}")
        return

    with refusals():
        if address is not None:
            check_ray_address(address, option="--address ")
        session = provision.find_session(address)
    written = provision.provision(session, prometheus_url=prometheus)
    echo_lines([*provision.address_lines(session)])
    echo_lines([*provision.start_lines(written, prometheus_url=prometheus)])
