"""What programs import says what it is, what it takes, what it gives, and what it raises."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest
from docstring_parser import DocstringStyle, parse

import rllib_dapo

# The rooms whose every public function is documented; of the others the names in `__all__`.
ROOMS = ("rllib_dapo.core", "rllib_dapo.metrics")
NAMED = ("rllib_dapo", "rllib_dapo.core", "rllib_dapo.envs")
_NO_ARGUMENTS = ("self", "cls")


def _modules(room: str) -> Iterator[Any]:
    package = importlib.import_module(room)
    for info in pkgutil.walk_packages(package.__path__, f"{room}."):
        yield importlib.import_module(info.name)


def _public(owner: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The public functions, classes and methods that a module or a class defines itself."""
    for name, value in vars(owner).items():
        function = getattr(value, "__func__", getattr(value, "fget", value))
        is_ours = getattr(function, "__module__", None) == getattr(
            owner, "__module__", getattr(owner, "__name__", None)
        )
        if name.startswith("_") or not is_ours:
            continue
        if isinstance(function, FunctionType | type):
            yield f"{prefix}.{name}", function
        if isinstance(function, type):
            yield from _public(function, f"{prefix}.{name}")


def _documented() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for room in ROOMS:
        for module in _modules(room):
            found |= dict(_public(module, module.__name__))
    for module in map(importlib.import_module, NAMED):
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, FunctionType | type):
                found[f"{value.__module__}.{name}"] = value
                if isinstance(value, type):
                    found |= dict(_public(value, f"{value.__module__}.{name}"))
    return found


DOCUMENTED = _documented()


def _is_override(function: Any) -> bool:
    """Whether a method is described where it is first declared."""
    return bool(getattr(function, "__override__", False)) or "@override" in _source(function)


def _source(function: Any) -> str:
    return textwrap.dedent(inspect.getsource(function))


def _raised(function: FunctionType) -> set[str]:
    """The errors that a function itself raises, by name."""
    (node,) = ast.parse(_source(function)).body
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call):
            found.add(ast.unparse(inner.exc.func).rpartition(".")[2])
    return found


def _problems(name: str, value: Any) -> Iterator[str]:
    text = inspect.getdoc(value)
    if not text:
        yield f"{name}: no docstring"
        return
    if isinstance(value, type) or _is_override(value):
        return

    told = parse(text, style=DocstringStyle.GOOGLE)
    parameters = [p for p in inspect.signature(value).parameters if p not in _NO_ARGUMENTS]
    args = {param.arg_name.lstrip("*") for param in told.params}
    if args and args != {p for p in parameters if not p.startswith("_")}:
        yield f"{name}: Args has {sorted(args)}, the signature {parameters}"
    if _raised(value) and not told.raises:
        yield f"{name}: raises {', '.join(sorted(_raised(value)))}, and says nothing of it"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_public_name_says_what_it_is(name: str) -> None:
    assert list(_problems(name, DOCUMENTED[name])) == []


def _undescribed(x: int) -> None: ...


def _half_described(x: int, y: int) -> None:
    """Does something.

    Args:
        x: A number.
    """
    raise ValueError(x, y)


def test_what_is_missing_is_named() -> None:
    assert list(_problems("f", _undescribed)) == ["f: no docstring"]
    assert list(_problems("f", _half_described)) == [
        "f: Args has ['x'], the signature ['x', 'y']",
        "f: raises ValueError, and says nothing of it",
    ]


def test_the_public_names_are_among_them() -> None:
    ours = {f"{getattr(rllib_dapo, name).__module__}.{name}" for name in rllib_dapo.__all__}
    assert ours <= set(DOCUMENTED)
    assert len(DOCUMENTED) > 100
