"""How a command tells that the sampling of an evaluation was interrupted, or failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from rllib_dapo.commands.command_line import INTERRUPTED, echo_lines

if TYPE_CHECKING:
    from rllib_dapo.evaluation.prepare_evaluation import PreparedEvaluation


@contextmanager
def ends_are_told(prepared: PreparedEvaluation) -> Iterator[None]:
    """Tells how to go on after Ctrl-C, or why the sampling has failed, and ends the command.

    Args:
        prepared: The evaluation, whose folder keeps what was sampled.
    """
    from rllib_dapo.evaluation.prepare_evaluation import kept_responses
    from rllib_dapo.evaluation.run_evaluation import failure_lines
    from rllib_dapo.shell_text import pasteable

    try:
        yield
    except KeyboardInterrupt:
        resume = pasteable("--output", prepared.folder)
        typer.echo(
            f"interrupted: {kept_responses(prepared)} responses are kept; the same command "
            f"with {resume} resumes it",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None
    except typer.Exit:
        raise  # a refusal that was told already
    except Exception as error:
        # An engine that does not start, for instance: one line here, and all of it in a file.
        echo_lines(failure_lines(prepared, error), err=True)
        raise typer.Exit(1) from None
