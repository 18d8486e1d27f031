"""From a judge's answer to a number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rllib_dapo.envs.env_settings import is_finite_number

_LOOKED_AT = 20_000  # characters at the end of an answer
_HOW = (
    "must be a regular expression with one group that is a number, such as 'Score: ([0-9.]+)', or "
    "words and what they are worth, such as {good: 1, bad: 0}"
)


@dataclass(frozen=True, slots=True)
class AnswerParser:
    """Finds the last number, or the last of some words, in an answer.

    The last one counts: a judge that thinks aloud comes to its verdict at the end.

    Attributes:
        pattern: What is looked for; its group is what counts.
        words: What words are worth, in lower case; empty: the group is a number.
        low: Least number that is a verdict.
        high: Largest number that is one.
    """

    pattern: re.Pattern[str]
    words: tuple[tuple[str, float], ...] = ()
    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def of(cls, name: str, value: Any, bounds: Any = None) -> AnswerParser:
        """Reads the settings `parser` and `range`.

        Raises:
            ValueError: If one of them is refused.
        """
        low, high = _bounds(name, bounds)
        if isinstance(value, Mapping):
            return cls(*_words(name, value), low, high)
        try:
            pattern = re.compile(value)
        except (re.error, TypeError) as error:
            raise ValueError(f"{name}={value!r}: {_HOW} ({error})") from None
        if pattern.groups != 1:
            raise ValueError(f"{name}={value!r}: {_HOW}; it has {pattern.groups} groups")
        return cls(pattern, (), low, high)

    def read(self, answer: str) -> float | None:
        """Returns the number that an answer gives; None if it gives none."""
        found = None
        for found in self.pattern.finditer(answer[-_LOOKED_AT:]):  # noqa: B007 (the last one)
            pass
        if found is None or found[1] is None:
            return None
        if self.words:
            return dict(self.words)[found[1].casefold()]
        try:
            number = float(found[1])
        except ValueError:
            return None
        return number if math.isfinite(number) and self.low <= number <= self.high else None


def _words(name: str, value: Mapping[Any, Any]) -> tuple[re.Pattern[str], tuple[Any, ...]]:
    is_good = value and all(
        isinstance(word, str) and word.strip() and is_finite_number(number)
        for word, number in value.items()
    )
    if not is_good:
        raise ValueError(f"{name}={dict(value)!r}: {_HOW}")
    # YAML reads `yes` and `no` as bools unless they stand in quotes, and they are refused above.
    words = {word.strip().casefold(): float(number) for word, number in value.items()}
    longest_first = sorted(words, key=len, reverse=True)
    listed = "|".join(map(re.escape, longest_first))
    return re.compile(rf"(?<!\w)({listed})(?!\w)", re.IGNORECASE), tuple(words.items())


def _bounds(name: str, value: Any) -> tuple[float, float]:
    if value is None:
        return -math.inf, math.inf
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    if not is_pair or not all(map(is_finite_number, value)) or value[0] > value[1]:
        where = name.rpartition(".")[0]
        raise ValueError(f"{where}.range={value!r}: must be two numbers, the smaller one first")
    return float(value[0]), float(value[1])
