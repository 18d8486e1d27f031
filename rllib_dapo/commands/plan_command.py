"""`rllib-dapo plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rllib_dapo.commands.command_line import SetOption, echo_lines, refusals
from rllib_dapo.commands.output_files import OverwriteOption, new_files

if TYPE_CHECKING:
    from rllib_dapo.capacity.hardware import Hardware
    from rllib_dapo.config.dapo_config import DAPOConfig


def plan(
    file: Annotated[
        str, typer.Argument(help="A run file, or the name of a preset (see `rllib-dapo presets`).")
    ],
    set_: SetOption = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="KIND", help="Kind of GPU, such as h100-80gb.")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option(min=1, help="Number of machines; by default as many as it takes.")
    ] = None,
    gpus_per_node: Annotated[
        int | None, typer.Option(min=1, help="GPUs of each machine; by default at most 8.")
    ] = None,
    memory_gib: Annotated[
        float | None, typer.Option(min=0.1, help="Main memory of each machine, in GiB.")
    ] = None,
    hardware: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML file that describes the machines, instead."),
    ] = None,
    response_tokens: Annotated[
        float | None,
        typer.Option(min=1, help="Mean length of a response; by default half of the longest."),
    ] = None,
    accepted: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of groups that dynamic sampling keeps.")
    ] = 0.5,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Also write the plan as JSON."),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Say how much memory and time a run will want, and what does not fit.

    Nothing is loaded or started: the figures follow from the model's config.json. By default it is
    planned for this machine. Exit code 1 says that something does not fit.
    """
    from rllib_dapo.capacity.model_shape import model_shape
    from rllib_dapo.capacity.plan_findings import plan_findings
    from rllib_dapo.capacity.plan_table import plan_lines
    from rllib_dapo.capacity.run_plan import make_plan, plan_as_json
    from rllib_dapo.run.quiet_ray import silence

    silence()
    with refusals(ValueError):
        (target,) = new_files({"--json": json_file}, overwrite=overwrite)
        configs, name = _configurations(file, set_ or [])
        sized = _hardware(configs, gpu, nodes, gpus_per_node, memory_gib, hardware)
        plans = []
        for config in configs:
            shape = model_shape(str(config.model_name), trust_remote_code=config.trust_remote_code)
            made = make_plan(
                config, shape, sized, response_tokens=response_tokens, accepted=accepted
            )
            plans.append((config, made))

    # Of the variants of a sweep the one that needs most is shown.
    config, made = max(plans, key=lambda pair: (pair[1].learner.total, pair[1].engine.total))
    echo_lines(plan_lines(made, name=name, model=str(config.model_name)))
    findings = list(
        dict.fromkeys(
            finding
            for one, its_plan in plans
            for finding in plan_findings(its_plan, one, response_tokens=response_tokens)
        )
    )
    if target is not None:
        _write_json(target, {"name": name, **plan_as_json(made), "findings": findings})

    typer.echo("")
    echo_lines([f"does not fit: {finding}" for finding in findings] or ["it fits"])
    raise typer.Exit(1 if findings else 0)


def _configurations(file: str, overrides: list[str]) -> tuple[list[DAPOConfig], str]:
    """The configurations of a run's trials that differ, with their values checked."""
    from rllib_dapo.run.planned_configs import planned_configs
    from rllib_dapo.run.preset_files import find_run_file

    return planned_configs(find_run_file(file), overrides)


def _hardware(
    configs: list[DAPOConfig],
    gpu: str | None,
    nodes: int | None,
    gpus_per_node: int | None,
    memory_gib: float | None,
    file: Path | None,
) -> Hardware:
    """What the options describe; this machine where they say nothing."""
    from rllib_dapo.capacity.asked_hardware import asked_gpus, chosen_hardware
    from rllib_dapo.findings import SettingsError

    options = {"--gpu": gpu, "--nodes": nodes, "--gpus-per-node": gpus_per_node}
    if file is not None and any(value is not None for value in (*options.values(), memory_gib)):
        raise SettingsError(
            "--hardware describes the machines: leave out --gpu, --nodes, --gpus-per-node and "
            "--memory-gib"
        )
    if file is not None:
        from rllib_dapo.capacity.hardware import read_hardware

        return read_hardware(file.expanduser())
    return chosen_hardware(
        asked_gpus(configs), gpu, nodes=nodes, gpus_per_node=gpus_per_node, gib=memory_gib
    )


def _write_json(path: Path, values: object) -> None:
    import json

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
