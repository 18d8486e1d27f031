"""What a test made of assertions is about: the names that it uses, and the code that is run."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

_PROGRAM = "solution"  # what some data sets' tests import the program from
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def readable_test(code: str) -> ast.Module:
    """Parses a test. `from solution import add` is left out: the names are the program's anyway.

    Raises:
        SyntaxError: If it is not Python.
        ValueError: If it cannot be read otherwise.
    """
    tree = ast.parse(code)
    imports = [
        node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == _PROGRAM
    ]
    if any(alias.asname or alias.name == "*" for node in imports for alias in node.names):
        raise ValueError(f"from {_PROGRAM}, only names as they are can be imported")
    tree.body = [node for node in tree.body if node not in imports]
    return tree


def free_names(tree: ast.AST) -> set[str]:
    """Names that a test uses and does not define: what the program has to define.

    A built-in name is Python's own, whatever the program makes of it: `set(f(x))` is a set. Only
    where a test uses no other name (`assert sum(10, 15) == 6`) does the program's own count.
    """
    used: set[str] = set()
    defined: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                defined.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                defined.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                defined |= {(one.asname or one.name).partition(".")[0] for one in aliases}

    free = used - defined
    own = {name for name in free if not hasattr(builtins, name)}
    return own or _called_names(tree) & free


def functions_to_call(tree: ast.Module) -> list[str]:
    """Names of functions `test_...()` that the test defines and leaves to pytest to call."""
    called = _called_names(tree)
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test")
        and node.name not in called
        and not ast.unparse(node.args)
    ]


def has_assertion(tree: ast.Module) -> bool:
    """Whether something in a test can fail that is run: not what stands in an uncalled function."""
    run = _called_names(tree) | set(functions_to_call(tree))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return any(_is_assertion(node) for node in _outside_of_functions(tree)) or any(
        _is_assertion(node)
        for function in functions
        if function.name in run
        for node in ast.walk(function)
    )


def _called_names(tree: ast.AST) -> set[str]:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {function.id for function in calls if isinstance(function, ast.Name)}


def _outside_of_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, _FUNCTIONS):
            yield node
            yield from _outside_of_functions(node)


def _is_assertion(node: ast.AST) -> bool:
    """Whether a part of a test can fail: `assert`, `raise`, or a call such as `assert_equal`."""
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node.func, ast.Name) else name
        return name.startswith("assert")
    return isinstance(node, ast.Assert | ast.Raise)
