"""`rllib-dapo evaluate`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from rllib_dapo.commands.command_line import SetOption, echo_lines, refusals
from rllib_dapo.commands.ended_sampling import ends_are_told
from rllib_dapo.commands.output_files import new_files


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|CHECKPOINT",
            help="A model folder, a hub name, a built-in name, or a checkpoint (a folder or URI).",
        ),
    ],
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="An environment, or module:Class. May be repeated."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A run file or preset, with `datasets` for several data sets in one go.",
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "--k", help="Number of responses to each problem. [default: the run's, or 32]"
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="Sampling temperature; 0 is greedy. [default: the run's, or 1.0]"),
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Nucleus of sampling. [default: the run's, or 0.7]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Largest number of problems of each data set.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of sampling and of intervals. [default: the run's, or 0]"),
    ] = None,
    set_: SetOption = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to this file.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for responses and figures; an interrupted evaluation in it is resumed.",
        ),
    ] = None,
    num_env_runners: Annotated[
        int | None,
        typer.Option(help="Number of engines on Ray; 0 is one in this process. [default: 0]"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Problems sampled together, a file each. [default: as many as fill the engine]"
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of --json if it exists.")
    ] = False,
) -> None:
    """Measure avg@k, pass@k and maj@k of a model or checkpoint, on one data set or several."""
    from rllib_dapo.checkpoint.remote_copy import local_model
    from rllib_dapo.evaluation.atomic_files import write_text
    from rllib_dapo.evaluation.evaluation_folder import SETTINGS
    from rllib_dapo.evaluation.evaluation_progress import EvaluationProgress
    from rllib_dapo.evaluation.evaluation_settings import read_evaluation
    from rllib_dapo.evaluation.evaluation_summary import result_json, table_lines
    from rllib_dapo.evaluation.prepare_evaluation import (
        opening_lines,
        prepare_evaluation,
    )
    from rllib_dapo.evaluation.run_evaluation import run_evaluation
    from rllib_dapo.run.preset_files import find_run_file
    from rllib_dapo.run.quiet_ray import silence

    silence()
    options = {
        "evaluation.evaluation_samples_per_prompt": k,
        "evaluation.evaluation_temperature": temperature,
        "evaluation.evaluation_top_p": top_p,
        "evaluation.evaluation_num_prompts": limit,
        "debugging.seed": seed,
        "env_runners.num_env_runners": num_env_runners,
    }
    with ExitStack() as stack:
        with refusals(ValueError, OSError):
            # The same command once more goes on with its folder, and writes the same file.
            goes_on = output is not None and (output.expanduser() / SETTINGS).is_file()
            (figures,) = new_files({"--json": json_file}, overwrite=overwrite or goes_on)
            settings = read_evaluation(
                model,
                file=None if file is None else find_run_file(file),
                envs=env or [],
                overrides=set_ or [],
                options={name: value for name, value in options.items() if value is not None},
                place=stack.enter_context(local_model(model)),
            )
            prepared = prepare_evaluation(settings, output=output, batch=batch)

        echo_lines([*prepared.notes, *opening_lines(prepared)])
        with ends_are_told(prepared):
            result = run_evaluation(prepared, EvaluationProgress())

    echo_lines(table_lines(result))
    if figures is not None:
        write_text(result_json(result), figures)
