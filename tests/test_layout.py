"""The rooms of the package and the one way imports run between them, read from its source."""

from __future__ import annotations

import ast
import glob
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

REPO = Path(__file__).parents[1]
PACKAGE = "rllib_dapo"

# Imports of single modules that the table forbids, each with its reason.
EXCEPTIONS = {
    # The RLModule is the one class that is a trainable model on a Learner and an engine elsewhere.
    ("rllib_dapo.learner.module", "rllib_dapo.rollout.engine"),
    ("rllib_dapo.learner.module", "rllib_dapo.rollout.make_engine"),
    ("rllib_dapo.learner.module", "rllib_dapo.rollout.text_forward"),
    ("rllib_dapo.learner.module", "rllib_dapo.rollout.transformers_engine"),
    # A configuration names its algorithm's class, as RLlib's do, when an object of it is made.
    ("rllib_dapo.config.dapo_config", "rllib_dapo.algorithm"),
}
# Heavy libraries, each behind the modules that need it.
IMPORTERS = {
    "vllm": {
        "rllib_dapo.rollout.vllm_engine",
        "rllib_dapo.rollout.cpu_adapter_products",
        "rllib_dapo.rollout.vllm_adapters",
        "rllib_dapo.rollout.vllm_adapter_worker",
        "rllib_dapo.rollout.vllm_requests",
        "rllib_dapo.rollout.vllm_start",
        "rllib_dapo.rollout.cpu_ray_executor",
        "rllib_dapo.rollout.tool_calls",
        "rllib_dapo.rollout.vllm_transfer",
        "rllib_dapo.rollout.vllm_weight_blocks",
        "rllib_dapo.rollout.vllm_worker",
        "rllib_dapo.rollout.worker_imports",
        "rllib_dapo.rollout.worker_processes",
        "rllib_dapo.rollout.worker_server",
        "rllib_dapo.weight_transfer.vllm_senders",
        "rllib_dapo.weight_transfer.wire.gloo_engine",
    },
    "deepspeed": {"rllib_dapo.learner.deepspeed_learner", "rllib_dapo.learner.zero_weights"},
}
WITHOUT_RAY = {"core", "envs"}
PRIVATE_NAMES_OF_RAY = "rllib_dapo.ray_internals"
MOST_LINES = 400


class Import(NamedTuple):
    """One imported module, the names taken from it, and whether only the type checker sees it."""

    module: str
    names: tuple[str, ...]
    typing_only: bool


def _load_design_table() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "design_table", REPO / "tools" / "design_table.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _sources() -> dict[str, Path]:
    """Every module of the package by its dotted name; glob follows the links, `rglob` does not."""
    found = {}
    for name in sorted(glob.glob(f"{PACKAGE}/**/*.py", root_dir=REPO, recursive=True)):
        parts = Path(name).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = REPO / name
    return found


DESIGN = _load_design_table()
ALLOWED = {room: frozenset(imports.split()) for room, imports in DESIGN.ROOMS.items()}
SOURCES = _sources()


def _room(module: str) -> str:
    """The room of a module: of the rooms that its path begins with, the innermost."""
    parts = module.split(".")[1:]
    names = ["/".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
    return next((name for name in names if name in ALLOWED), names[-1]) if names else PACKAGE


def _is_typing_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    )


def _imports(source: str, module: str, *, is_package: bool, known: frozenset[str]) -> list[Import]:
    """All imports in a source, also those inside functions.

    `from package import x` is the module `package.x` where that is one.
    """
    found: list[Import] = []

    def visit(node: ast.AST, typing_only: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, (), typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*here[: len(here) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                if full in known:
                    found.append(Import(full, (), typing_only))
                else:
                    found.append(Import(base, (alias.name,), typing_only))
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
    room, top = _room(module), imported.module.partition(".")[0]
    if top == PACKAGE:
        target = _room(imported.module)
        if target == room or imported.typing_only or (module, imported.module) in EXCEPTIONS:
            return None
        return None if target in ALLOWED.get(room, ()) else f"{room} may not import {target}"

    if module not in IMPORTERS.get(top, {module}):
        return f"only {' and '.join(sorted(IMPORTERS[top]))} may import {top}"
    if top == "ray":
        if room in WITHOUT_RAY:
            return f"{room} works without ray"
        parts = (*imported.module.split("."), *imported.names)
        if module != PRIVATE_NAMES_OF_RAY and any(part.startswith("_") for part in parts):
            return f"only {PRIVATE_NAMES_OF_RAY} imports private names of Ray"
    if room in DESIGN.LIBRARIES and not imported.typing_only:
        permitted = {*sys.stdlib_module_names, *DESIGN.LIBRARIES[room].split()}
        if top not in permitted:
            return (
                f"{room} imports {DESIGN.LIBRARIES[room] or 'nothing'} beside the standard library"
            )
    return None


def _problems(
    source: str, module: str, *, is_package: bool = False, known: frozenset[str] = frozenset()
) -> list[str]:
    imports = _imports(source, module, is_package=is_package, known=known)
    return [f"{i.module}: {problem}" for i in imports if (problem := _problem(module, i))]


@pytest.mark.parametrize("module", SOURCES)
def test_imports_run_one_way(module: str) -> None:
    path = SOURCES[module]
    problems = _problems(
        path.read_text(),
        module,
        is_package=path.name == "__init__.py",
        known=frozenset(SOURCES),
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
            "rllib_dapo.config",
        ),
        ("rllib_dapo.core.loss", "from .. import config", "rllib_dapo.config"),
        ("rllib_dapo.core.loss", "import rllib_dapo", "rllib_dapo"),
        ("rllib_dapo.envs.base", "if TYPE_CHECKING:\n    from ray import rllib", "ray"),
        ("rllib_dapo.envs.base", "from rllib_dapo.rollout import engine", "rllib_dapo.rollout"),
        ("rllib_dapo.rollout.engine", "from vllm import LLM", "vllm"),
        ("rllib_dapo.rollout.engine", "from ..learner import module", "rllib_dapo.learner"),
        ("rllib_dapo.learner.learner", "import deepspeed.comm", "deepspeed.comm"),
        (
            "rllib_dapo.learner.learner",
            "import rllib_dapo.rollout.engine",
            "rllib_dapo.rollout.engine",
        ),
        ("rllib_dapo.algorithm", "from rllib_dapo.cli import main", "rllib_dapo.cli"),
        ("rllib_dapo.models.tiny", "import rllib_dapo.rollout", "rllib_dapo.rollout"),
        ("rllib_dapo.run.search.stoppers", "import rllib_dapo.run.tuner", "rllib_dapo.run.tuner"),
        ("rllib_dapo.run.tuner", "from ray._private import utils", "ray._private"),
        ("rllib_dapo.run.tuner", "from ray.tune.registry import _registry", "ray.tune.registry"),
        ("rllib_dapo.no_such_room", "import rllib_dapo.core", "rllib_dapo.core"),
    ],
)
def test_an_import_against_the_rule_is_named(module: str, source: str, named: str) -> None:
    known = frozenset({"rllib_dapo.config"})
    assert [problem.partition(":")[0] for problem in _problems(source, module, known=known)] == [
        named
    ]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rllib_dapo.core.types", "if TYPE_CHECKING:\n    from numpy.typing import NDArray"),
        ("rllib_dapo.core.loss", "import math\nimport torch\nfrom .types import Response"),
        ("rllib_dapo.envs.base", "import gymnasium\nfrom rllib_dapo.envs import spaces"),
        (
            "rllib_dapo.rollout.env_runner",
            "if TYPE_CHECKING:\n    from rllib_dapo.config.dapo_config import DAPOConfig",
        ),
        ("rllib_dapo.rollout.vllm_engine", "import vllm"),
        ("rllib_dapo.learner.module", "from rllib_dapo.rollout.engine import Engine"),
        ("rllib_dapo.config.dapo_config", "from rllib_dapo.algorithm import DAPO"),
        ("rllib_dapo.commands.train_command", "from rllib_dapo import reporting"),
        ("rllib_dapo.run.tuner", "from rllib_dapo.run.search import stoppers"),
        ("rllib_dapo.ray_internals", "from ray._private import utils"),
    ],
)
def test_an_import_within_the_rule_is_silent(module: str, source: str) -> None:
    known = frozenset({"rllib_dapo.reporting", "rllib_dapo.rollout.engine"})
    assert _problems(source, module, known=known) == []


def test_the_table_names_every_room_and_no_other() -> None:
    assert {_room(module) for module in SOURCES} == set(ALLOWED)


def test_a_room_may_import_only_rooms_above_it() -> None:
    above: set[str] = set()
    for room, imports in ALLOWED.items():
        assert imports <= above, f"{room}: {sorted(imports - above)} stand below it"
        above.add(room)


def test_each_permission_and_exception_is_used() -> None:
    used, pairs = set(), set()
    for module, path in SOURCES.items():
        for imported in _imports(
            path.read_text(),
            module,
            is_package=path.name == "__init__.py",
            known=frozenset(SOURCES),
        ):
            if imported.module.partition(".")[0] == PACKAGE:
                used.add((_room(module), _room(imported.module)))
                pairs.add((module, imported.module))

    # The package's face loads its rooms by name, which an import statement would do at once.
    used |= {(PACKAGE, room) for room in ALLOWED[PACKAGE]}
    unused = {(room, other) for room, others in ALLOWED.items() for other in others} - used
    assert unused == set()
    assert EXCEPTIONS - pairs == set()


def test_the_design_page_has_the_table() -> None:
    page = DESIGN.PAGE.read_text()
    assert DESIGN.written_table(page) == DESIGN.table(), "run: python tools/design_table.py"


def test_every_room_says_what_it_is_for() -> None:
    assert [room for room in ALLOWED if not DESIGN.purpose(room)] == []


def test_no_two_files_of_the_package_have_the_same_name() -> None:
    files = Counter(path.name for path in SOURCES.values() if path.name != "__init__.py")
    assert [name for name, count in files.items() if count > 1] == []


def test_no_two_classes_of_the_package_have_the_same_name() -> None:
    homes: dict[str, list[str]] = {}
    for module, path in SOURCES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


@pytest.mark.parametrize("folder", ["rllib_dapo", "tests", "examples", "benchmarks", "tools"])
def test_no_source_file_is_long(folder: str) -> None:
    endings = (".py", ".js", ".css", ".html", ".sh")
    long = {}
    for name in glob.glob(f"{folder}/**/*", root_dir=REPO, recursive=True):
        if name.endswith(endings):
            lines = (REPO / name).read_text().count("\n")
            if lines > MOST_LINES:
                long[name] = lines
    assert long == {}


def test_no_link_but_the_two_rooms_that_stand_beside_the_package() -> None:
    links = {
        path.name: str(path.readlink()) for path in (REPO / PACKAGE).iterdir() if path.is_symlink()
    }
    if not links:
        pytest.skip("a source archive has folders in the place of the links")
    assert links == {"envs": "../envs", "tune_configs": "../tune_configs"}
