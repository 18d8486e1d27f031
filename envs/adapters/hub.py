"""What the adapters of hubs have in common: a package that may not be there, and its refusals.

A hub is a package that brings many environments under names. Each adapter has the setting `task`,
the name in the hub, and `arguments`, what the hub makes the environment with. All of a hub's code
runs in processes of its own, a game in each: it reads what a model wrote, and most of it draws from
Python's one global generator.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from rllib_dapo.envs.hosts.outcomes import one_line
from rllib_dapo.envs.turns import TurnsEnv

_SHOWN_NAMES = 12


class HubEnv(TurnsEnv):
    """An environment of a hub, in a process of its own unless `verify_in` is "here".

    A subclass writes `begin` and `turn`.

    Settings, with their defaults:
        task: The environment's name in the hub; has no default.
        arguments: {}; what the hub makes it with, by name.
        max_turns: 16; the episode is cut off after this many responses. Most games have a lower
            limit of their own.
        success_at: 1.0; an episode whose last reward is at least this is a success. None: there is
            no right and wrong, and a group trains if its rewards differ.

    Raises:
        ValueError: If a setting is refused, the package is not installed, or the hub cannot make
            the environment.
    """

    needs_process: ClassVar[bool] = True
    default_settings: ClassVar[Mapping[str, Any]] = {
        "task": None,
        "arguments": None,
        "max_turns": 16,
        "success_at": 1.0,
    }

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        task, arguments = self.settings["task"], self.settings["arguments"] or {}
        if not isinstance(task, str) or not task:
            raise ValueError(f"task={task!r}: must be the name of an environment in the hub")
        if not isinstance(arguments, Mapping) or not all(
            isinstance(name, str) for name in arguments
        ):
            raise ValueError(
                f"arguments={arguments!r}: must be a mapping from argument names to values"
            )
        self.task = task
        self.arguments = dict(arguments)


def import_hub(name: str, *, install: str) -> Any:
    """Imports a hub's package.

    Args:
        name: Name of the module.
        install: How it is installed, for the message.

    Raises:
        ValueError: If it, or a package that it needs, is not installed; one line.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"needs the package {name} ({one_line(str(error))}): {install} (`make setup` does it)"
        ) from error


def refuse_unknown_task(task: str, known: Iterable[str]) -> None:
    """Refuses a task that a hub does not have.

    Raises:
        ValueError: If it does not; one line, with names that are near.
    """
    names = sorted(known)
    if task in names:
        return
    near = difflib.get_close_matches(task, names, n=3)
    told = f"did you mean {' or '.join(near)}?" if near else f"there are {_listed(names)}"
    raise ValueError(f"task={task!r}: there is no such environment in the hub; {told}")


def cannot_make(task: str, error: BaseException) -> ValueError:
    """Returns the refusal of a task that a hub failed to make, in one line."""
    told = one_line(str(error).strip(" *\n"))
    if isinstance(error, LookupError) and "nltk" in told:
        # NLTK's message is a page, of which this is what matters.
        return ValueError(
            f"task={task!r}: needs lists of words of NLTK, which are not on this machine: "
            "python -m nltk.downloader words averaged_perceptron_tagger_eng"
        )
    return ValueError(f"task={task!r}: the hub cannot make it: {type(error).__name__}: {told}")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN_NAMES])
    more = len(names) - _SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
