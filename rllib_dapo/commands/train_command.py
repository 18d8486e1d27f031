"""`rllib-dapo train`."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

import typer

from rllib_dapo.commands.command_line import INTERRUPTED, SetOption, echo_lines, refusals

if TYPE_CHECKING:
    from rllib_dapo.run.resume_plan import ResumePlan
    from rllib_dapo.run.run_settings import RunSettings

TERMINATED = 128 + signal.SIGTERM  # what shells say of a command that SIGTERM ended


def train(
    file: Annotated[
        str, typer.Argument(help="A run file, or the name of a preset (see `rllib-dapo presets`).")
    ],
    set_: SetOption = None,
    storage: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Folder in which runs are kept, or a URI that every machine can reach.",
        ),
    ] = "~/ray_results",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume the newest run of this name. Only stop.* may be given another value.",
        ),
    ] = False,
) -> None:
    """Train as a run file says. Search spaces in it make the run a sweep."""
    from rllib_dapo.run.interruption import Interrupted, termination_raised
    from rllib_dapo.run.preset_files import find_run_file
    from rllib_dapo.run.quiet_ray import silence
    from rllib_dapo.run.run_file import read_run_file
    from rllib_dapo.run.run_settings import build
    from rllib_dapo.shell_text import pasteable

    silence()
    overrides = set_ or []
    try:
        with termination_raised():
            with refusals():
                settings = build(read_run_file(find_run_file(file), overrides))
            sets = [word for text in overrides for word in ("--set", text)]
            command = pasteable("rllib-dapo", "train", file, *sets)
            _resume(settings, storage, command) if resume else _start(settings, storage, command)
    except (KeyboardInterrupt, Interrupted) as error:
        typer.echo("interrupted: nothing had been trained yet", err=True)
        is_key = isinstance(error, KeyboardInterrupt)
        raise typer.Exit(INTERRUPTED if is_key else TERMINATED) from None


def _start(settings: RunSettings, storage: str, command: str) -> None:
    """Starts a run, once nothing is found that could not work."""
    from rllib_dapo.run import preflight
    from rllib_dapo.run.ray_address import check_ray_address
    from rllib_dapo.run.run_folder import check_storage, new_run

    with refusals():
        preflight.check_run(settings)
        check_ray_address()
        check_storage(storage)
        preflight.check_models(settings)
        folder = new_run(settings.name, storage)
    _train(settings, folder, command)


def _resume(settings: RunSettings, storage: str, command: str) -> None:
    """Goes on with a run, if that is what there is to do."""
    from rllib_dapo.run import preflight
    from rllib_dapo.run.ray_address import check_ray_address
    from rllib_dapo.run.resume_plan import plan_resume
    from rllib_dapo.run.run_folder import newest_run
    from rllib_dapo.run.summary import over_lines

    with refusals():
        preflight.check_run(settings)
        folder = newest_run(settings.name, storage)
        plan = plan_resume(folder, settings.record)
        if not plan.is_over:
            check_ray_address()
            preflight.check_models(settings)

    if plan.is_over:
        echo_lines(over_lines(plan, folder, command))
        return
    _train(settings, folder, command, plan)


def _train(
    settings: RunSettings, folder: str, command: str, plan: ResumePlan | None = None
) -> None:
    """Trains, and says what came of it.

    Args:
        settings: The run, checked.
        folder: Its folder.
        command: The command without `--storage` and `--resume`, to be pasted.
        plan: What is to be resumed; None for a new run.
    """
    from rllib_dapo.run import preflight, tuner
    from rllib_dapo.run.failures import failure_lines, keep_error
    from rllib_dapo.run.interruption import Interrupted
    from rllib_dapo.run.run_folder import folder_exists, remove_unused
    from rllib_dapo.run.summary import interruption_lines, opening_line, summary_lines
    from rllib_dapo.shell_text import pasteable

    typer.echo(opening_line(settings))
    echo_lines(preflight.warnings(settings), err=True)
    typer.echo(f"results: {folder}")
    resume = f"{command} {pasteable('--storage', folder, '--resume')}"

    try:
        with refusals():
            if plan is None:
                outcome = tuner.run(settings, folder)
            else:
                outcome = tuner.resume(settings, folder, plan)
    except typer.Exit:
        if plan is None:
            remove_unused(folder)
        raise
    except (KeyboardInterrupt, Interrupted) as error:
        if plan is None:
            remove_unused(folder)
        if not folder_exists(folder):
            raise
        echo_lines(["interrupted at once", f"  to go on: {resume}"], err=True)
        is_key = isinstance(error, KeyboardInterrupt)
        raise typer.Exit(INTERRUPTED if is_key else TERMINATED) from None
    # Whatever Ray or Tune raise in this process: one line here, and all of it in a file.
    except Exception as error:
        echo_lines(keep_error(error, folder), err=True)
        raise typer.Exit(1) from None

    echo_lines(interruption_lines(outcome, resume))
    echo_lines(summary_lines(outcome, settings))
    failures = failure_lines(outcome)
    echo_lines(failures, err=True)
    raise typer.Exit(_exit_code(outcome.signal_number, has_failures=bool(failures)))


def _exit_code(signal_number: int | None, *, has_failures: bool) -> int:
    if has_failures:
        return 1
    if signal_number is None:
        return 0
    return TERMINATED if signal_number == signal.SIGTERM else INTERRUPTED
