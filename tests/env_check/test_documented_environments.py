"""`check-env` finds no fault in any environment that the pages and the examples show."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from rllib_dapo.env_check.environment_finding import Finding

Check = Callable[..., list[Finding]]

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/environments.md")
# Games whose seed chooses what the prompt does not show, or nothing but chance.
ONE_PROMPT = {"GuessEnv", "FrozenLake-v1", "CliffWalking-v1"}


def _blocks(page: str) -> Iterator[str]:
    """The blocks of Python in a page that define an environment."""
    for block in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S):
        if re.search(r"^class \w+\(\w*Env\):", block, re.M):
            yield block


def _environments(names: dict[str, Any]) -> dict[str, type]:
    """The environments among the names that a module defines itself."""
    return {
        name: value
        for name, value in names.items()
        if isinstance(value, type)
        and issubclass(value, gymnasium.Env)
        and not value.__module__.startswith("rllib_dapo.")
    }


def _without_one_prompt(name: str, findings: list[Finding]) -> list[Finding]:
    if name not in ONE_PROMPT:
        return findings
    (found,) = findings
    assert found.fault == "12 different seeds gave 1 different prompt"
    assert not found.breaks_training
    return []


@pytest.mark.parametrize("page", PAGES)
def test_an_environment_that_a_page_shows_has_no_fault(page: str, check: Check) -> None:
    checked = {}
    for block in _blocks(page):
        names: dict[str, Any] = {"__name__": "shown_in_a_page"}
        exec(compile(block, page, "exec"), names)  # our own pages
        checked.update(_environments(names))

    assert "ReverseEnv" in checked
    for name, env in checked.items():
        assert _without_one_prompt(name, check(env)) == [], name


def test_the_reward_function_that_a_page_shows_has_no_fault(check: Check, tmp_path: Path) -> None:
    page = (ROOT / "docs/environments.md").read_text()
    (block,) = re.findall(r"```python\n(# my_rewards\.py\n.*?)```", page, re.S)
    names: dict[str, Any] = {"__name__": "shown_in_a_page"}
    exec(compile(block, "docs/environments.md", "exec"), names)

    problems = tmp_path / "prompts.csv"
    problems.write_text("question\n" + "".join(f"What is {i}?\n" for i in range(40)))
    settings = {"path": str(problems), "reward": names["brief"]}
    assert check("rllib_dapo/RewardFunction-v0", settings) == []


def _examples() -> list[Path]:
    """The examples with an environment of their own."""
    paths = sorted((ROOT / "examples").rglob("*.py"))
    return [path for path in paths if re.search(r"^class \w+\(\w*Env\):", path.read_text(), re.M)]


@pytest.mark.parametrize("path", _examples(), ids=lambda path: path.name)
def test_an_environment_of_an_example_has_no_fault(path: Path, check: Check) -> None:
    names = runpy.run_path(str(path))
    environments = _environments(names)
    assert environments
    for name, env in environments.items():
        for game in names.get("GAMES", [None]):
            settings = {} if game is None else {"game": game}
            assert _without_one_prompt(game or name, check(env, settings)) == [], game or name
