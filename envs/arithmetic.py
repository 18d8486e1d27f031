"""Sums, differences and products of whole numbers, made on the fly."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.env_settings import check_choice, check_fraction, check_integer, check_template
from rllib_dapo.envs.rule_scored import RuleScoredEnv
from rllib_dapo.envs.splits import SPLITS, split_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_OPERATIONS = "+-*"
_MAX_DIGITS = 18  # operands stay within int64, which is what the generator draws
_MAX_TERMS = 16
_SEARCH_LIMIT = 50_000  # expressions looked at, about a second, before a split is called empty
# Draws for a problem, as a multiple of their average number: failure has a chance of e**-20.
_PATIENCE = 20


class ArithmeticEnv(RuleScoredEnv):
    """Asks for the value of an expression such as `12+57=`.

    A hash of an expression, up to the order of its summands and factors, decides whether it is held
    out: if `57+12` is, so is `12+57`.

    Settings, with their defaults:
        operations: "+"; a string or list of "+", "-" and "*".
        digits: 2; operands are 0 .. 10**digits - 1.
        max_operand: None; if set, operands are 0 .. max_operand and `digits` is not used.
        terms: 2; how many operands an expression has.
        split: "train", or "heldout".
        heldout_fraction: 0.1; the share of expressions that is held out.
        seed: 0; chooses among the streams of problems. Splits do not depend on it.
        template: "{expression}="; the prompt.
        answer_rule: "exact_integer": the response is the number and nothing else; or a rule for
            wordier models.

    Raises:
        ValueError: If a setting is refused, or if no expression lies in the split.
    """

    default_settings: ClassVar[Mapping[str, Any]] = {
        "operations": "+",
        "digits": 2,
        "max_operand": None,
        "terms": 2,
        "split": "train",
        "heldout_fraction": 0.1,
        "seed": 0,
        "template": "{expression}=",
        "answer_rule": "exact_integer",
    }

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        given = self.settings

        self._operations = _check_operations(given["operations"])
        self._terms = check_integer("terms", given["terms"], low=2, high=_MAX_TERMS)
        digits = check_integer("digits", given["digits"], low=1, high=_MAX_DIGITS)
        self._max_operand = 10**digits - 1
        if given["max_operand"] is not None:
            self._max_operand = check_integer(
                "max_operand", given["max_operand"], low=1, high=10**_MAX_DIGITS - 1
            )

        self._split = check_choice("split", given["split"], SPLITS)
        self._heldout_fraction = check_fraction("heldout_fraction", given["heldout_fraction"])
        self._seed = check_integer("seed", given["seed"], low=0)
        self._template = check_template("template", given["template"], "expression")

        self._fallback = self._first_in_split()
        share = self._heldout_fraction if self._split == "heldout" else 1 - self._heldout_fraction
        self._draw_limit = math.ceil(min(_PATIENCE / share, _SEARCH_LIMIT))

    def problem(self, seed: int) -> Problem:
        """Draws expressions until one is in the split.

        The generator is made from the setting `seed` and the reset seed.
        """
        rng = np.random.default_rng([self._seed, seed])
        operands, operations = next(
            filter(self._in_split, islice(self._draws(rng), self._draw_limit)), self._fallback
        )

        expression = write_expression(operands, operations)
        return Problem(
            prompt=self._template.format(expression=expression),
            answer=str(evaluate(operands, operations)),
            problem_id=expression,
        )

    def _draws(self, rng: np.random.Generator) -> Iterator[tuple[tuple[int, ...], str]]:
        while True:
            operands = rng.integers(self._max_operand, size=self._terms, endpoint=True).tolist()
            chosen = rng.integers(len(self._operations), size=self._terms - 1).tolist()
            yield tuple(operands), "".join(self._operations[i] for i in chosen)

    def _in_split(self, drawn: tuple[tuple[int, ...], str]) -> bool:
        return split_of(_key(*drawn), self._heldout_fraction) == self._split

    def _first_in_split(self) -> tuple[tuple[int, ...], str]:
        """Finds one expression of the split.

        That proves that there is one, and unlucky draws fall back on it.
        """
        size = (self._max_operand + 1) ** self._terms * len(self._operations) ** (self._terms - 1)
        looked_at = min(size, _SEARCH_LIMIT)
        found = next(filter(self._in_split, map(self._nth, range(looked_at))), None)
        if found is None:
            raise ValueError(
                f"split={self._split!r}: none of the first {looked_at} of {size} expressions lies "
                f"in it with heldout_fraction={self._heldout_fraction}; change heldout_fraction, "
                "or make more expressions with digits, max_operand, terms or operations"
            )
        return found

    def _nth(self, index: int) -> tuple[tuple[int, ...], str]:
        """Counts through all expressions, the first operand fastest."""
        operands, operations = [], ""
        for _ in range(self._terms):
            index, operand = divmod(index, self._max_operand + 1)
            operands.append(operand)
        for _ in range(self._terms - 1):
            index, operation = divmod(index, len(self._operations))
            operations += self._operations[operation]
        return tuple(operands), operations


def write_expression(operands: Sequence[int], operations: str) -> str:
    """Writes `(12, 3, 4)` and `"+*"` as `12+3*4`."""
    return f"{operands[0]}" + "".join(
        f"{op}{number}" for op, number in zip(operations, operands[1:], strict=True)
    )


def evaluate(operands: Sequence[int], operations: str) -> int:
    """Returns the value of an expression, `*` before `+` and `-`."""
    return sum(sign * math.prod(factors) for sign, factors in _summands(operands, operations))


def _summands(operands: Sequence[int], operations: str) -> list[tuple[int, list[int]]]:
    """Cuts an expression into signed products: `12-3*4` into `(1, [12]), (-1, [3, 4])`."""
    summands = [(1, [operands[0]])]
    for operation, number in zip(operations, operands[1:], strict=True):
        if operation == "*":
            summands[-1][1].append(number)
        else:
            summands.append((1 if operation == "+" else -1, [number]))
    return summands


def _key(operands: Sequence[int], operations: str) -> str:
    """Names an expression up to the order of its summands and factors."""
    return str(sorted((sign, sorted(factors)) for sign, factors in _summands(operands, operations)))


def _check_operations(value: Any) -> str:
    listed = list(value) if isinstance(value, str | list | tuple) else []
    if not listed or not all(operation in tuple(_OPERATIONS) for operation in listed):
        raise ValueError(
            f"operations={value!r}: must be a text or list made of {' '.join(_OPERATIONS)}, "
            "such as '+-'"
        )
    return "".join(dict.fromkeys(listed))
