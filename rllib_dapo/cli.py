"""The command `rllib-dapo`."""

from __future__ import annotations

from typing import Annotated

import typer

from rllib_dapo.commands.check_env_command import check_env
from rllib_dapo.commands.check_model_command import check_model
from rllib_dapo.commands.dashboard_command import dashboard
from rllib_dapo.commands.data_command import data
from rllib_dapo.commands.evaluate_command import evaluate
from rllib_dapo.commands.export_command import export
from rllib_dapo.commands.plan_command import plan
from rllib_dapo.commands.prepare_command import prepare
from rllib_dapo.commands.replay_command import replay
from rllib_dapo.commands.report_command import report
from rllib_dapo.commands.sample_command import sample
from rllib_dapo.commands.self_consistency_command import self_consistency
from rllib_dapo.commands.sft_command import sft
from rllib_dapo.commands.train_command import train

app = typer.Typer(
    name="rllib-dapo",
    help="DAPO (arXiv 2503.14476) on Ray RLlib: train language models with reinforcement learning.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(train)
app.command()(sft)
app.command("self-consistency")(self_consistency)
app.command()(plan)
app.command()(evaluate)
app.command()(sample)
app.command()(report)
app.command()(export)
app.command()(dashboard)
app.command()(replay)
app.command("check-env")(check_env)
app.command("check-model")(check_model)
app.command()(data)
app.command()(prepare)


@app.command()
def presets() -> None:
    """List the run files that come with this package."""
    from rllib_dapo.run.preset_files import preset_files

    for name, path in preset_files().items():
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        typer.echo(f"{name:20} {first.removeprefix('#').strip()}")


def main() -> None:
    """Entry point of the console script."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"rllib-dapo {version('rllib-dapo')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Options of the command itself."""
