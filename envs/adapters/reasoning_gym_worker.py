"""The process in which reasoning-gym makes its problems and scores answers. A script: it imports nothing of ours.

Why a process of its own: some tasks depend on the order of sets of texts, which Python shuffles
anew in every process unless told otherwise at its start; and some scorers take minutes, or any
amount of memory, over an odd answer.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import difflib
import json
import os
import random
import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

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
# Entries of a data set: some tasks have a bound on their number, so later reset seeds are entries
# of further data sets.
BLOCK = 500

_OWN = ("seed", "size")
_CACHED_DATASETS = 64
_CACHED_ENTRIES = (
    512  # some tasks search for half a second, and every response to a problem asks for it again
)
_MEMORY_BYTES = 4 * 2**30

_LONGEST_ANSWER = 10_000
_LONGEST_EXPRESSION = 1_000
_LARGEST_NUMBER = 10**15
_LARGEST_EXPONENT = 100
_ODD_NUMBER = re.compile(
    r"[eE][+-]?\d{3}|\d_"
)  # 1e-999999999 is 0 to Python, and endless work to sympy
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


class Refused(ValueError):
    """A setting that cannot be used; one line."""


def is_harmless_list(answer: str) -> bool:
    """Whether evaluating the answer can do no more than make lists of constants; what is no Python is harmless too."""
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
    """Whether the answer is arithmetic over bounded numbers, names and well-known functions, and nothing else."""
    if len(answer) > _LONGEST_EXPRESSION or _ODD_NUMBER.search(answer):
        return False
    try:
        return _is_plain(ast.parse(answer.strip(), mode="eval").body, powers=2)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False


def _is_plain(node: ast.AST, *, powers: int) -> bool:
    """Whether a part of an expression is plain and has at most so many powers one inside the other."""
    if isinstance(node, ast.Constant):
        value = node.value
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) <= _LARGEST_NUMBER
        )
    if isinstance(node, ast.Name):
        return node.id.isascii() and "_" not in node.id
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, _SIGNS) and _is_plain(node.operand, powers=powers)
    if isinstance(node, ast.Call):
        called = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        return (
            called
            and not node.keywords
            and all(_is_plain(part, powers=powers) for part in node.args)
        )
    if not isinstance(node, ast.BinOp):
        return False
    if isinstance(node.op, ast.Pow):
        numbers = [n.value for n in ast.walk(node.right) if isinstance(n, ast.Constant)]
        small = all(
            isinstance(value, int | float) and abs(value) <= _LARGEST_EXPONENT for value in numbers
        )
        return (
            small
            and powers > 0
            and _is_plain(node.right, powers=0)
            and _is_plain(node.left, powers=powers - 1)
        )
    return isinstance(node.op, _OPERATORS) and all(
        _is_plain(n, powers=powers) for n in (node.left, node.right)
    )


class Tasks:
    """The entries of one task, for any number of data sets of it.

    Args:
        task: Its name in reasoning-gym.
        settings: Its own settings.

    Raises:
        Refused: If there is no such task, or it refuses its settings.
    """

    def __init__(self, task: Any, settings: dict[str, Any]) -> None:
        from reasoning_gym.factory import DATASETS

        if not isinstance(task, str) or task not in DATASETS:
            raise Refused(
                f"task={task!r}: no such task{_guess(task, DATASETS)}; there are {', '.join(sorted(DATASETS))}"
            )
        known = [
            field.name for field in dataclasses.fields(DATASETS[task][1]) if field.name not in _OWN
        ]
        for name, value in settings.items():
            if name not in known:
                raise Refused(
                    f"unknown setting {name!r} (value {value!r}){_guess(name, known)}; the task {task} has "
                    f"{', '.join(known)}"
                )
        self._task = task
        self._settings = settings
        self._dataset = lru_cache(maxsize=_CACHED_DATASETS)(self._make)
        self._entry = lru_cache(maxsize=_CACHED_ENTRIES)(self._make_entry)
        try:
            self._dataset(0)
        except Exception as error:
            told = str(error) or type(error).__name__
            raise Refused(f"task={task!r} refuses its settings {settings!r}: {told}") from error

    def entry(self, seed: int, index: int) -> dict[str, Any]:
        """Returns an entry of the data set of a seed; it is the caller's own, for some scorers change what they get."""
        return copy.deepcopy(self._entry(seed, index))

    def score(self, seed: int, index: int, answer: str) -> dict[str, Any]:
        """Scores an answer to an entry, 0 to 1, and says why where it was not looked at."""
        entry = self.entry(seed, index)
        if (
            answer != entry["answer"]
        ):  # what is equal is right, and every scorer compares before it does anything else
            # A composite's entry is scored by the task that it came from.
            tasks = {self._task, entry["metadata"].get("source_dataset")}
            harmful = len(answer) > _LONGEST_ANSWER or (
                tasks & EXPRESSIONS and not is_plain_expression(answer)
            )
            if harmful or (tasks & LISTS and not is_harmless_list(answer)):
                return {
                    "score": 0.0,
                    "reason": "the answer is too long, or nothing that this task asks for",
                }
        # The right answer is never refused: a scorer that raises does so because of what the model
        # wrote.
        try:
            return {"score": float(self._dataset(seed).score_answer(answer, entry)), "reason": ""}
        except Exception as error:
            return {"score": 0.0, "reason": f"the scorer raised {type(error).__name__}"}

    def _make_entry(self, seed: int, index: int) -> dict[str, Any]:
        dataset = self._dataset(seed)
        random.seed(
            f"{seed}/{index}"
        )  # codeio and list_functions draw from Python's own generator, too
        made: dict[str, Any] = dataset[index]
        return made

    def _make(self, seed: int) -> Any:
        from reasoning_gym.composite import DatasetSpec
        from reasoning_gym.factory import create_dataset

        settings = dict(self._settings)
        if self._task == "composite":
            parts = [
                {"weight": 1.0, "config": {}, **part} for part in settings.get("datasets") or []
            ]
            settings["datasets"] = [DatasetSpec(**part) for part in parts]
        return create_dataset(self._task, seed=seed, size=BLOCK, **settings)


def main() -> None:
    """Answers requests: ``{"entry": [seed, index]}``, or the same with an ``"answer"`` to be scored."""
    # What the library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        tasks = Tasks(**json.loads(sys.argv[1]))
    except ImportError as error:
        return reply(
            {
                "refused": f"needs the package reasoning-gym ({error}): pip install rllib-dapo[reasoning-gym]"
            }
        )
    except Refused as error:
        return reply({"refused": " ".join(str(error).split())})
    _bound_memory()
    reply({})
    for line in sys.stdin:
        request = json.loads(line)
        seed, index = request["entry"]
        if "answer" in request:
            reply(tasks.score(seed, index, request["answer"]))
        else:
            entry = tasks.entry(seed, index)
            reply({"question": entry["question"], "answer": entry["answer"]})
    return None


def _guess(name: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1) if isinstance(name, str) else []
    return f"; did you mean {close[0]!r}?" if close else ""


def _bound_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


if __name__ == "__main__":
    main()
