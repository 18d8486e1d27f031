"""Which answers may reach a scorer of reasoning-gym that evaluates them as Python.

It imports nothing else of this package, for the process that scores imports it.
"""

from __future__ import annotations

import ast
import re

# Tasks whose scorers run Python's eval over the answer, to see whether it is a list; and those
# whose scorers hand the answer to sympy's parse_expr, which is eval too.
LISTS = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
EXPRESSIONS = frozenset(
    {
        "countdown",
        "intermediate_integration",
        "polynomial_multiplication",
        "puzzle24",
        "simple_integration",
    }
)

_LONGEST_EXPRESSION = 1_000
_LARGEST_NUMBER = 10**15
_LARGEST_EXPONENT = 100
# 1e-999999999 is 0 to Python, and endless work to sympy.
_ODD_NUMBER = re.compile(r"[eE][+-]?\d{3}|\d_")
_FUNCTIONS = frozenset(
    """
    Abs abs acos acosh asin asinh atan atanh cos cosh cot coth csc erf exp ln log sec sech sin sinh
    sqrt tan tanh
    """.split()  # noqa: SIM905 (reads better than 23 quoted words)
)
_LIST_NODES = (
    ast.Expression,
    ast.List,
    ast.Tuple,
    ast.Set,
    ast.Dict,
    ast.Constant,
    ast.Name,
    ast.Load,
)
_SIGNS = (ast.UAdd, ast.USub)
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div)


def is_harmless_list(answer: str) -> bool:
    """Whether evaluating the answer can do no more than make lists of constants.

    What is not Python is harmless too.
    """
    try:
        tree = ast.parse(answer.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return True
    return all(
        isinstance(node, _LIST_NODES + _SIGNS)
        or (isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant))
        for node in ast.walk(tree)
    )


def is_plain_expression(answer: str) -> bool:
    """Whether the answer is only arithmetic over bounded numbers, names and known functions."""
    if len(answer) > _LONGEST_EXPRESSION or _ODD_NUMBER.search(answer):
        return False
    try:
        return _is_plain(ast.parse(answer.strip(), mode="eval").body, powers=2)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False


def _is_plain(node: ast.AST, *, powers: int) -> bool:
    """Whether a part of an expression is plain, with powers nested at most `powers` deep."""
    if isinstance(node, ast.Constant):
        return _is_small(node.value, _LARGEST_NUMBER) and not isinstance(node.value, bool)
    if isinstance(node, ast.Name):
        return node.id.isascii() and "_" not in node.id
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, _SIGNS) and _is_plain(node.operand, powers=powers)

    if isinstance(node, ast.Call):
        is_known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        arguments = (_is_plain(argument, powers=powers) for argument in node.args)
        return is_known and not node.keywords and all(arguments)

    if not isinstance(node, ast.BinOp):
        return False
    if isinstance(node.op, ast.Pow):
        return powers > 0 and _is_plain_power(node, powers=powers)
    sides = (node.left, node.right)
    return isinstance(node.op, _OPERATORS) and all(_is_plain(n, powers=powers) for n in sides)


def _is_plain_power(node: ast.BinOp, *, powers: int) -> bool:
    numbers = [n.value for n in ast.walk(node.right) if isinstance(n, ast.Constant)]
    return (
        all(_is_small(number, _LARGEST_EXPONENT) for number in numbers)
        and _is_plain(node.right, powers=0)
        and _is_plain(node.left, powers=powers - 1)
    )


def _is_small(value: object, largest: int) -> bool:
    return isinstance(value, int | float) and abs(value) <= largest
