"""`rllib-dapo train`."""

from __future__ import annotations

from typing import Annotated

import typer

from rllib_dapo.commands.command_line import INTERRUPTED, SetOption, echo_lines, refusals


def train(
    file: Annotated[
        str, typer.Argument(help="A run file, or the name of a preset (see `rllib-dapo presets`).")
    ],
    set_: SetOption = None,
    storage: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Folder in which runs are kept, or a URI that every machine can reach.",
        ),
    ] = "~/ray_results",
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the newest run of this name.")
    ] = False,
) -> None:
    """Train as a run file says. Search spaces in it make the run a sweep."""
    from rllib_dapo.run import preflight, tuner
    from rllib_dapo.run.preset_files import find_run_file
    from rllib_dapo.run.quiet_ray import silence
    from rllib_dapo.run.run_file import read_run_file
    from rllib_dapo.run.run_folder import new_run, newest_run
    from rllib_dapo.run.run_settings import build
    from rllib_dapo.run.summary import failure_lines, is_interrupted, opening_line, summary_lines

    silence()
    with refusals():
        settings = build(read_run_file(find_run_file(file), set_ or []))
        preflight.check_run(settings)
        folder = (newest_run if resume else new_run)(settings.name, storage)
        preflight.check_models(settings)

    typer.echo(opening_line(settings))
    echo_lines(preflight.warnings(settings), err=True)
    typer.echo(f"results: {folder}")
    outcome = (tuner.resume if resume else tuner.run)(settings, folder)

    echo_lines(summary_lines(outcome, settings))
    failures = failure_lines(outcome)
    echo_lines(failures, err=True)
    raise typer.Exit(1 if failures else INTERRUPTED if is_interrupted(outcome) else 0)
