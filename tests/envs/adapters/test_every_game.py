"""Every game of gem and textarena is played, or refused in one line."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import gymnasium
import pytest

# It makes levels for minutes, so that a process would be given up.
TOO_SLOW = {"Sokoban-v0-medium"}


def _games_of_gem() -> list[str]:
    known = import_module("gem").envs.registration.ENV_REGISTRY
    return [name for name in known if name.startswith("game:")]


def _games_of_textarena() -> list[str]:
    known = import_module("textarena").envs.registration.ENV_REGISTRY
    return [name.removesuffix("-raw") for name in known if name.endswith("-raw")]


def _is_played(env_id: str, task: str) -> bool:
    """Plays the first turn of a game twice; False where it is refused, in one line."""
    try:
        env: Any = gymnasium.make(env_id, task=task)
    except ValueError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert refusal.startswith(f"task={task!r}: ")
        assert "\n" not in refusal
        return False

    turns = []
    for other in (1, 2):
        random.seed(other)  # what came before must not matter
        turns.append((env.reset(seed=3)[0], env.step("nonsense")[:3]))
    env.close()
    assert turns[0] == turns[1], task
    return True


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("package", "env_id", "games", "fewest"),
    [
        ("gem", "rllib_dapo/Gem-v0", _games_of_gem, 26),
        ("textarena", "rllib_dapo/TextArena-v0", _games_of_textarena, 56),
    ],
    ids=["gem", "textarena"],
)
def test_every_game_is_played_or_refused(
    package: str, env_id: str, games: Callable[[], list[str]], fewest: int
) -> None:
    if find_spec(package) is None:
        pytest.skip(f"needs the package {package}")
    tasks = [task for task in games() if task not in TOO_SLOW]
    played = [task for task in tasks if _is_played(env_id, task)]
    # More where NLTK's lists of words are on the machine.
    assert len(played) >= fewest, sorted(set(tasks) - set(played))
