"""`rllib-dapo replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_dapo.commands.command_line import echo_lines, refusals
from rllib_dapo.commands.output_files import OverwriteOption, new_files


def replay(
    recording: Annotated[
        Path,
        typer.Argument(help="Folder of a run with rollout.record_groups, or of one of its trials."),
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Try another setting, such as training.epsilon_high=0.4; [0.2, 0.28, 0.4] makes "
            "a row for each. May be repeated.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Replay only this many training steps.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures to this file.")
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write the figures of every step to this file."),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Repeat a recorded run's updates under other settings, without sampling, and compare."""
    from rllib_dapo.replay import replay_table
    from rllib_dapo.run.delayed_lines import DelayedLines
    from rllib_dapo.run.quiet_ray import silence

    silence()
    with refusals():
        json_file, csv_file = new_files(
            {"--json": json_file, "--csv": csv_file}, overwrite=overwrite
        )
        settings = replay_table.read_replay(recording, set_ or [], limit=steps)
    count = len(settings.configs)
    typer.echo(f"{recording}: {len(settings.steps)} training steps, {count} settings")

    rows = list(replay_table.run_replay(settings, DelayedLines(typer.echo)))
    echo_lines(replay_table.table_lines(rows))
    for file, write in ((json_file, replay_table.write_json), (csv_file, replay_table.write_csv)):
        if file is not None:
            write(rows, file)
