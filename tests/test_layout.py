"""The rooms of the package and the one way imports run between them, read from the source without running it."""

from __future__ import annotations

import ast
import configparser
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

REPO = Path(__file__).parent.parent
PACKAGE = "rllib_dapo"

# A room may import itself and the rooms above it in this list, but not its own level's other room.
# Top-level modules that are not named here, `checks` and `evaluation` are the room `algorithm`: the
# loop, its configuration, what these are made of.
LEVELS = (
    ("core",),
    ("envs",),
    ("shared",),
    ("rollout", "learner"),
    ("algorithm",),
    ("package",),
    ("run",),
    ("face",),
)
ROOM_OF = {
    "": "package",
    "core": "core",
    "envs": "envs",
    "metrics": "shared",
    "models": "shared",
    "threads": "shared",
    "tune_configs": "shared",
    "rollout": "rollout",
    "learner": "learner",
    "dashboards": "run",
    "run": "run",
    "__main__": "face",
    "cli": "face",
    "reporting": "face",
}
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

# The RLModule is the one place that knows both a trainable model and an engine.
EXCEPTIONS = {("rllib_dapo.learner.module", "rllib_dapo.rollout.engine")}
# Heavy libraries, each behind the one module that needs it.
SOLE_IMPORTER = {
    "vllm": "rllib_dapo.rollout.vllm_engine",
    "deepspeed": "rllib_dapo.learner.deepspeed_learner",
}
WITHOUT_RAY = {"core", "envs"}


class Import(NamedTuple):
    """One imported name, and whether only the type checker sees it."""

    name: str
    typing_only: bool


def _sources() -> dict[str, Path]:
    """Every module of the package by its dotted name, with envs/ and tune_configs/ where setup.cfg puts them."""
    roots = {PACKAGE: REPO / PACKAGE} | {
        f"{PACKAGE}.{name}": REPO / name for name in ("envs", "tune_configs")
    }
    found = {}
    for package, root in roots.items():
        for path in sorted(root.rglob("*.py")):
            parts = (package, *path.relative_to(root).with_suffix("").parts)
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


SOURCES = _sources()


def _room(module: str) -> str:
    top = module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]
    return ROOM_OF.get(top, "algorithm")


def _is_typing_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def _imports(source: str, module: str, *, is_package: bool, known: frozenset[str]) -> list[Import]:
    """All imports in a source, also inside functions; `from package import x` is the module x where that is one."""
    found: list[Import] = []

    def visit(node: ast.AST, typing_only: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*here[: len(here) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.append(Import(full if full in known else base, typing_only))
        elif _is_typing_guard(node):
            for child in node.body:
                visit(child, True)
            for child in node.orelse:
                visit(child, typing_only)
        else:
            for child in ast.iter_child_nodes(node):
                visit(child, typing_only)

    visit(ast.parse(source), False)
    return found


def _problem(module: str, imported: Import) -> str | None:
    """Why a module of the package must not import this, or None where it may."""
    room, top = _room(module), imported.name.partition(".")[0]
    if top == PACKAGE:
        target = _room(imported.name)
        allowed = (
            target == room
            or LEVEL_OF[target] < LEVEL_OF[room]
            or (module, imported.name) in EXCEPTIONS
        )
        return None if allowed or imported.typing_only else f"{room} is below or beside {target}"
    if top in SOLE_IMPORTER and module != SOLE_IMPORTER[top]:
        return f"only {SOLE_IMPORTER[top]} imports {top}"
    if top == "ray" and room in WITHOUT_RAY:
        return f"{room} works without ray"
    permitted = {"torch", "numpy"} if imported.typing_only else {"torch"}
    if room == "core" and top not in sys.stdlib_module_names | permitted:
        return "core imports torch and the standard library alone"
    return None


def _problems(
    source: str, module: str, *, is_package: bool = False, known: frozenset[str] = frozenset()
) -> list[str]:
    imports = _imports(source, module, is_package=is_package, known=known)
    return [f"{i.name}: {problem}" for i in imports if (problem := _problem(module, i))]


@pytest.mark.parametrize("module", SOURCES)
def test_imports_run_one_way(module: str) -> None:
    path = SOURCES[module]
    known = frozenset(SOURCES)
    problems = _problems(
        path.read_text(), module, is_package=path.name == "__init__.py", known=known
    )
    assert not problems, f"{path.relative_to(REPO)} imports " + "; ".join(problems)


@pytest.mark.parametrize(
    ("module", "source", "named"),
    [
        ("rllib_dapo.core.loss", "import ray", "ray"),
        ("rllib_dapo.core.loss", "import numpy as np", "numpy"),
        (
            "rllib_dapo.core.loss",
            "def f():\n    from rllib_dapo import config",
            "rllib_dapo.config.dapo_config",
        ),
        ("rllib_dapo.core.loss", "from .. import config", "rllib_dapo.config.dapo_config"),
        ("rllib_dapo.core.loss", "import rllib_dapo", "rllib_dapo"),
        ("rllib_dapo.envs.base", "if TYPE_CHECKING:\n    from ray import rllib", "ray"),
        (
            "rllib_dapo.envs.base",
            "from rllib_dapo.rollout.engine import Sampling",
            "rllib_dapo.rollout.engine",
        ),
        ("rllib_dapo.rollout.engine", "from vllm import LLM", "vllm"),
        ("rllib_dapo.rollout.engine", "from ..learner import module", "rllib_dapo.learner"),
        ("rllib_dapo.learner.learner", "import deepspeed.comm", "deepspeed.comm"),
        (
            "rllib_dapo.learner.learner",
            "from rllib_dapo.rollout import engine",
            "rllib_dapo.rollout",
        ),
        ("rllib_dapo.algorithm", "from rllib_dapo.cli import main", "rllib_dapo.cli"),
        ("rllib_dapo.models.tiny", "import rllib_dapo.rollout", "rllib_dapo.rollout"),
    ],
)
def test_an_import_against_the_rule_is_named(module: str, source: str, named: str) -> None:
    known = frozenset({"rllib_dapo.config.dapo_config"})
    assert [problem.partition(":")[0] for problem in _problems(source, module, known=known)] == [
        named
    ]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rllib_dapo.core.types", "if TYPE_CHECKING:\n    from numpy.typing import NDArray"),
        ("rllib_dapo.core.loss", "import math\nimport torch\nfrom .types import Response"),
        ("rllib_dapo.envs.base", "import gymnasium\nfrom rllib_dapo.core import types"),
        (
            "rllib_dapo.rollout.env_runner",
            "if TYPE_CHECKING:\n    from rllib_dapo.config.dapo_config import DAPOConfig",
        ),
        ("rllib_dapo.rollout.vllm_engine", "import vllm"),
        ("rllib_dapo.learner.module", "from rllib_dapo.rollout.engine import make_engine"),
        ("rllib_dapo.config.dapo_config", "from rllib_dapo.algorithm import DAPO"),
        ("rllib_dapo.cli", "from rllib_dapo import DAPOConfig, reporting"),
    ],
)
def test_an_import_within_the_rule_is_silent(module: str, source: str) -> None:
    known = frozenset({"rllib_dapo.reporting", "rllib_dapo.rollout.engine"})
    assert _problems(source, module, known=known) == []


def test_setup_cfg_lists_every_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(REPO / "setup.cfg")
    listed = setup["options"]["packages"].split()
    present = [name for name, path in SOURCES.items() if path.name == "__init__.py"]
    assert sorted(listed) == sorted(present)
