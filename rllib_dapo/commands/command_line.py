"""What the commands share: exit codes, options, and how a refusal is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

REFUSED = 2
INTERRUPTED = 130  # what shells say of a command that Ctrl-C ended

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Override a setting, such as training.lr=1e-5. May be repeated.",
    ),
]


@contextmanager
def refusals(*errors: type[Exception]) -> Iterator[None]:
    """Tells an error of these kinds in one line, and ends the command with exit code 2.

    Args:
        *errors: Kinds of errors beside `SettingsError`.
    """
    from rllib_dapo.findings import SettingsError

    try:
        yield
    except (SettingsError, *errors) as error:  # type: ignore[misc]  # mypy cannot see the kinds
        typer.echo(str(error), err=True)
        raise typer.Exit(REFUSED) from None


def echo_lines(lines: list[str], *, err: bool = False) -> None:
    """Prints lines, to standard error if asked."""
    for line in lines:
        typer.echo(line, err=err)
