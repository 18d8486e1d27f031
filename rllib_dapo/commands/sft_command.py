"""`rllib-dapo sft`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_dapo.commands.command_line import INTERRUPTED, SetOption, echo_lines, refusals
from rllib_dapo.commands.train_command import TERMINATED


def sft(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help='A .jsonl or .parquet file of {"prompt", "response"} or {"messages": [...]}.',
        ),
    ],
    folder: Annotated[
        Path, typer.Argument(help="Path of the model's folder, which must be new or empty.")
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="A model folder, a hub name or a built-in name.")
    ],
    like: Annotated[
        str | None,
        typer.Option(
            metavar="RUNFILE",
            help="FILE holds problems with answers: learn these, as responses to the prompts of "
            "this run file or preset.",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="How often each record is learnt.")] = 1,
    batch_size: Annotated[
        int | None, typer.Option(help="Records of an optimizer step. [default: 32]")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate after the warm-up. [default: 1e-5]")
    ] = None,
    heldout: Annotated[
        float, typer.Option(help="Share of the prompts that is not learnt, for the held-out loss.")
    ] = 0.05,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Longest record in tokens. [default: what the model can take]"),
    ] = None,
    overlong: Annotated[
        str,
        typer.Option(help="What to do with longer records: refuse, cut (at the end) or skip."),
    ] = "refuse",
    seed: Annotated[
        int | None, typer.Option(help="Seed of the order of records. [default: 0]")
    ] = None,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge", help="Write a whole model where an adapter is trained (language_model.lora)."
        ),
    ] = False,
    dtype: Annotated[
        str,
        typer.Option(
            help="Type of the weights that are written; `original` is that of the model's files."
        ),
    ] = "float32",
    set_: SetOption = None,
) -> None:
    """Train a model on records, with loss on the responses alone, as a warm start for `train`.

    The Learners are those of `train`: --set language_model.lora, deepspeed.config,
    learners.num_learners and most of `training` work as there.
    """
    from rllib_dapo.run.error_cause import cause_line
    from rllib_dapo.run.interruption import Interrupted, termination_raised
    from rllib_dapo.run.preset_files import find_run_file
    from rllib_dapo.run.quiet_ray import silence
    from rllib_dapo.warm_start.prepare_sft import opening_lines, prepare_sft
    from rllib_dapo.warm_start.run_sft import run_sft
    from rllib_dapo.warm_start.sft_settings import read_sft

    silence()
    options = {
        "training.minibatch_size": batch_size,
        "training.lr": lr,
        "debugging.seed": seed,
    }
    try:
        with termination_raised():
            with refusals():
                settings = read_sft(
                    file=file,
                    folder=folder,
                    model=model,
                    overrides=set_ or [],
                    options={name: value for name, value in options.items() if value is not None},
                    epochs=epochs,
                    heldout_fraction=heldout,
                    max_tokens=max_tokens,
                    overlong=overlong,
                    merge=merge,
                    dtype=dtype,
                    like=None if like is None else find_run_file(like),
                )
                prepared = prepare_sft(
                    settings, say=lambda line: typer.echo(f"{line} ...", err=True)
                )
            echo_lines(opening_lines(prepared))
            result = run_sft(prepared, say=typer.echo)
    except (KeyboardInterrupt, Interrupted) as error:
        typer.echo("interrupted: no model was written", err=True)
        is_key = isinstance(error, KeyboardInterrupt)
        raise typer.Exit(INTERRUPTED if is_key else TERMINATED) from None
    except typer.Exit:
        raise
    # Whatever a model, the Learners or a full disk may raise.
    except Exception as error:
        typer.echo(f"failed, and no model was written: {cause_line(error)}", err=True)
        raise typer.Exit(1) from None

    if result.skipped:
        typer.echo(f"{result.skipped} steps were left out: their gradient was not finite")
    typer.echo(f"model: {result.folder}")
