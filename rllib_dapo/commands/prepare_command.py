"""`rllib-dapo prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from rllib_dapo.commands.command_line import refusals
from rllib_dapo.commands.output_files import OverwriteOption, new_files


def prepare(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="A .parquet, .jsonl, .json or .csv file of problems."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="Path of the new file, .jsonl or .parquet.")
    ],
    question: Annotated[
        list[str] | None, typer.Option(help="Column of the question. May be repeated.")
    ] = None,
    answer: Annotated[
        list[str] | None, typer.Option(help="Column of the answer. May be repeated.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a file's problems whose answers are integers, or can be made into one.

    This is what the paper did with its data.
    """
    from rllib_dapo.envs.integer_answers import prepare as prepare_file

    columns = {side: names for side, names in (("question", question), ("answer", answer)) if names}
    with refusals(ValueError, OSError):
        if source.expanduser().resolve() == target.expanduser().resolve():
            raise ValueError(f"OUT {target} is IN itself: name another file")
        (written,) = new_files({"OUT": target}, overwrite=overwrite)
        done = prepare_file(source.expanduser(), cast(Path, written), columns=columns)
    typer.echo(
        f"{target}: {done.kept} as they are, {done.transformed} made to ask for an integer; "
        f"{done.dropped} left out"
    )
