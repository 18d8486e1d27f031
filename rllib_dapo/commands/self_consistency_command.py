"""`rllib-dapo self-consistency`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from rllib_dapo.commands.command_line import SetOption, echo_lines, refusals
from rllib_dapo.commands.ended_sampling import ends_are_told
from rllib_dapo.commands.output_files import OverwriteOption, new_files


def self_consistency(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of problems with answers.")],
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|CHECKPOINT",
            help="A model folder, a hub name, a built-in name, or a checkpoint (a folder or URI).",
        ),
    ],
    kept: Annotated[
        Path, typer.Argument(metavar="KEPT", help="Path of the new file, .jsonl or .parquet.")
    ],
    sft: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write correct samples to this file, as records for `sft`."
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Number of samples of each problem.")] = 8,
    threshold: Annotated[
        float,
        typer.Option(help="Least share of the samples that must give the record's answer."),
    ] = 0.5,
    temperature: Annotated[float, typer.Option(help="Sampling temperature, over 0.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus of sampling.")] = 1.0,
    per_problem: Annotated[
        int, typer.Option(help="Largest number of different correct samples of a problem in --sft.")
    ] = 4,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="RUNFILE",
            help="A run file or preset: its environment and rollout settings. "
            "[default: rllib_dapo/Math-v0]",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Largest number of problems.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    set_: SetOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder for all samples; an interrupted command in it is resumed."
        ),
    ] = None,
    num_env_runners: Annotated[
        int, typer.Option(help="Number of engines on Ray; 0 is one in this process.")
    ] = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Keep the records whose answer the majority of a model's samples supports."""
    from rllib_dapo.checkpoint.remote_copy import local_model
    from rllib_dapo.envs.problem_file import check_target
    from rllib_dapo.evaluation.evaluation_progress import EvaluationProgress
    from rllib_dapo.evaluation.prepare_evaluation import (
        opening_lines,
        prepare_evaluation,
    )
    from rllib_dapo.evaluation.run_evaluation import run_evaluation
    from rllib_dapo.findings import SettingsError
    from rllib_dapo.run.preset_files import find_run_file
    from rllib_dapo.run.quiet_ray import silence
    from rllib_dapo.warm_start.self_consistency import (
        judge_file,
        read_self_consistency,
        summary_lines,
    )

    silence()
    options = {
        "evaluation.evaluation_samples_per_prompt": n,
        "evaluation.evaluation_temperature": temperature,
        "evaluation.evaluation_top_p": top_p,
        "debugging.seed": seed,
        "env_runners.num_env_runners": num_env_runners,
    }
    with ExitStack() as stack:
        with refusals(ValueError, OSError):
            _check(n=n, threshold=threshold, temperature=temperature, per_problem=per_problem)
            if limit is not None and limit < 1:
                raise SettingsError(f"--limit {limit} must be at least 1")
            kept_file, sft_file = new_files({"KEPT": kept, "--sft": sft}, overwrite=overwrite)
            assert kept_file is not None
            for target in filter(None, (kept_file, sft_file)):
                check_target(target)
            settings = read_self_consistency(
                file,
                model,
                like=None if like is None else find_run_file(like),
                overrides=set_ or [],
                options=options,
                limit=limit,
                place=stack.enter_context(local_model(model)),
            )
            prepared = prepare_evaluation(settings, output=output, batch=None)

        echo_lines([*prepared.notes, *opening_lines(prepared)])
        with ends_are_told(prepared):
            run_evaluation(prepared, EvaluationProgress())
            with refusals():
                result = judge_file(
                    prepared,
                    threshold=threshold,
                    kept_file=kept_file,
                    sft_file=sft_file,
                    per_problem=per_problem,
                )

    echo_lines(summary_lines(result, kept_file=kept_file, sft_file=sft_file))


def _check(*, n: int, threshold: float, temperature: float, per_problem: int) -> None:
    from rllib_dapo.findings import SettingsError

    if n < 2:
        raise SettingsError(f"--n {n} must be at least 2: one sample is no majority")
    if not 0 < threshold <= 1:
        raise SettingsError(f"--threshold {threshold} must lie in (0, 1]")
    if not temperature > 0:
        raise SettingsError(f"--temperature {temperature} must be over 0: all samples would agree")
    if per_problem < 1:
        raise SettingsError(f"--per-problem {per_problem} must be at least 1")
