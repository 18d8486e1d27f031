"""`rllib-dapo check-env`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rllib_dapo.commands.command_line import echo_lines, refusals

if TYPE_CHECKING:
    from rllib_dapo.env_check.environment_finding import Finding

EnvConfigOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="env_config.NAME=VALUE",
        help="Set one of the environment's settings. May be repeated.",
    ),
]


def check_env(
    env: Annotated[
        str,
        typer.Argument(metavar="ID|module:Class", help="A Gymnasium id, or a class of your own."),
    ],
    set_: EnvConfigOption = None,
) -> None:
    """Check that an environment keeps the rules that training relies on.

    List what breaks training (exit code 1), and what is worth a look. Settings of the environment
    are given as `--set env_config.digits=3`.
    """
    from rllib_dapo.env_check.check_environment import check_environment

    with refusals():
        findings = check_environment(env, _env_config(set_ or []))

    echo_lines([str(finding) for finding in findings], err=True)
    typer.echo(f"{env}: {_summary(findings)}")
    raise typer.Exit(1 if any(finding.breaks_training for finding in findings) else 0)


def _summary(findings: Sequence[Finding]) -> str:
    num_faults = sum(finding.breaks_training for finding in findings)
    faults = "1 fault" if num_faults == 1 else f"{num_faults or 'no'} faults"

    num_others = len(findings) - num_faults
    others = "1 thing" if num_others == 1 else f"{num_others} things"
    return f"{faults} found" + (f", {others} worth a look" if num_others else "")


def _env_config(overrides: list[str]) -> dict[str, Any]:
    """The environment's settings from `env_config.name=value`; `environment.` may stand before."""
    from rllib_dapo.findings import SettingsError
    from rllib_dapo.run.yaml_file import parse_override, put

    tree: dict[str, Any] = {"env_config": {}}
    for text in overrides:
        example = "env_config.digits=3"
        name = text.partition("=")[0].strip().removeprefix("environment.")
        if not name.removeprefix("env_config.") or not name.startswith("env_config."):
            raise SettingsError(
                f"--set {text}: {name or 'no name'} is not a setting of check-env, which takes "
                f"those of the environment alone, such as --set {example}"
            )
        tree = put(tree, name, parse_override(text, example=example)[1])
    return dict(tree["env_config"])
