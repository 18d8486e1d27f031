"""`rllib-dapo export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_dapo.commands.command_line import refusals


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(help="Folder or URI of a checkpoint, as `train` prints it at its end."),
    ],
    folder: Annotated[
        Path, typer.Argument(help="Path of the model's folder, which must be new or empty.")
    ],
    dtype: Annotated[
        str,
        typer.Option(
            help="Type of the weights, such as float32; by default that of the model's own files."
        ),
    ] = "original",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Allow a folder with files: replaces those of the same names, and removes none.",
        ),
    ] = False,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="Write a whole model where an adapter was trained (language_model.lora).",
        ),
    ] = False,
) -> None:
    """Write a checkpoint's model as a Hugging Face folder, which transformers and vLLM load."""
    from rllib_dapo.checkpoint.export import export_checkpoint
    from rllib_dapo.run.quiet_ray import silence

    silence()
    with refusals(ValueError, OSError):
        written = export_checkpoint(
            checkpoint, folder, dtype=dtype, overwrite=overwrite, merge=merge
        )
    typer.echo(f"model: {written}")
