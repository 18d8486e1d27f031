"""`rllib-dapo check-model`."""

from __future__ import annotations

from typing import Annotated

import typer

from rllib_dapo.commands.command_line import SetOption, echo_lines, refusals


def check_model(
    model: Annotated[
        str,
        typer.Argument(help="A model's folder, a hub name, or a built-in model such as tiny."),
    ],
    set_: SetOption = None,
) -> None:
    """Check what a model can do: what works, what is slower, and what is refused, and why.

    Settings are given as for a run, such as `--set rollout.max_response_tokens=4096`.
    """
    from rllib_dapo.model_check.check_model import check_folder
    from rllib_dapo.run.model_settings import model_settings
    from rllib_dapo.run.quiet_ray import silence

    silence()
    with refusals(ValueError):
        config, lengths = model_settings(model, set_ or [])
        report = check_folder(
            config,
            lengths=lengths,
            say=lambda line: typer.echo(f"{line} ...", err=True),
        )

    echo_lines(report.lines())
    refused = len(report.refusals)
    typer.echo(
        f"{model}: {report.architecture}, checked in {report.seconds:.1f} s: "
        + (f"{refused} refused" if refused else "it can be trained")
    )
    raise typer.Exit(1 if refused else 0)
