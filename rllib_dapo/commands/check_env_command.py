"""`rllib-dapo check-env`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rllib_dapo.commands.command_line import SetOption, echo_lines, refusals


def check_env(
    env: Annotated[
        str,
        typer.Argument(metavar="ID|module:Class", help="A Gymnasium id, or a class of your own."),
    ],
    set_: SetOption = None,
) -> None:
    """Check that an environment keeps the rules that training relies on, and list its faults.

    Settings of the environment are given as `--set env_config.digits=3`.
    """
    from rllib_dapo.env_check.check_environment import check_environment
    from rllib_dapo.run.environments import resolve_environment
    from rllib_dapo.run.quiet_ray import silence

    silence()
    with refusals():
        faults = check_environment(resolve_environment(env), _env_config(set_ or []))

    echo_lines([str(fault) for fault in faults], err=True)
    count = "1 fault" if len(faults) == 1 else f"{len(faults) or 'no'} faults"
    typer.echo(f"{env}: {count} found")
    raise typer.Exit(1 if faults else 0)


def _env_config(overrides: list[str]) -> dict[str, Any]:
    """The environment's settings from `env_config.name=value`; `environment.` may stand before."""
    from rllib_dapo.findings import SettingsError
    from rllib_dapo.run.yaml_file import parse_override, put

    tree: dict[str, Any] = {"env_config": {}}
    for text in overrides:
        example = "env_config.digits=3"
        name, value = parse_override(text, example=example)
        name = name.removeprefix("environment.")
        if not name.startswith("env_config."):
            raise SettingsError(
                f"--set {text}: check-env takes settings of the environment alone, such as "
                f"--set {example}"
            )
        tree = put(tree, name, value)
    return dict(tree["env_config"])
