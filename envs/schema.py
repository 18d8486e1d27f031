"""Which columns of a problem file hold the prompt, the answer and a name for the row."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PROMPT_COLUMNS = ("question", "problem", "prompt", "input")
ANSWER_COLUMNS = ("answer", "final_answer", "expected_answer", "ground_truth", "target", "solution")
ID_COLUMNS = ("problem_id", "unique_id", "id", "idx", "index")

KNOWN_SCHEMAS = (
    "prompt + reward_model.ground_truth (DAPO-Math-17k), question + answer (GSM8K), "
    "input + target (MAWPS), "
    f"or one of {'/'.join(PROMPT_COLUMNS)} with one of {'/'.join(ANSWER_COLUMNS)}"
)
_SIDES = ("question", "answer")
_RECIPE = {"prompt", "reward_model"}  # of the public DAPO recipe's files


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """What the setting `columns` says.

    An empty side is told from the names of the file's columns.

    Attributes:
        question: Names of the columns whose texts, joined by a space, are the prompt.
        answer: Names of the columns whose answers, joined by a space, are the ground truth.
    """

    question: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Schema:
    """Which columns of a file hold what; a dot leads into a nested column.

    Attributes:
        prompt: Names of the columns with the prompt, each a text or a list of chat messages.
        answer: Names of the columns with the ground truth; empty if the file has none and none is
            needed.
        identity: Name of the column that names the row, if there is one.
    """

    prompt: tuple[str, ...]
    answer: tuple[str, ...]
    identity: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns that are read."""
        return (*self.prompt, *self.answer, *([self.identity] if self.identity else []))


def check_columns(value: Any) -> Columns:
    """Checks the setting `columns`: None, or a mapping from "question" and "answer" to columns.

    Raises:
        ValueError: If it is neither.
    """
    if value is None:
        return Columns()
    if not isinstance(value, Mapping) or not set(value) <= set(_SIDES):
        raise ValueError(
            f"columns={value!r}: must say where the file keeps what, as in "
            '{"question": "problem", "answer": ["value", "unit"]}; one of the two may be left out'
        )
    return Columns(**{side: _as_names(side, names) for side, names in value.items()})


def detect_schema(columns: Iterable[str]) -> Schema | None:
    """Returns the schema that a set of top-level columns stands for, or None if it is unknown."""
    schema = _detect(frozenset(columns))
    return schema if schema.prompt and schema.answer else None


def find_schema(
    where: str, names: Iterable[str], columns: Columns, *, need_answers: bool
) -> Schema:
    """Returns which columns of a file hold what.

    Args:
        where: Name of the file, for messages.
        names: Names of its top-level columns.
        columns: What the user says about them; the rest is told from their names.
        need_answers: Whether a file without answers is refused.

    Raises:
        ValueError: If a column that the user names is not there, or the names stand for no known
            schema.
    """
    listed = list(names)
    for name in (*columns.question, *columns.answer):
        if name not in listed and name.partition(".")[0] not in listed:
            close = difflib.get_close_matches(name, listed, n=1)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"{where}: columns names {name!r}, "
                f"but there are {', '.join(listed) or '(none)'}{guess}"
            )

    detected = _detect(frozenset(listed))
    prompt, answer = columns.question or detected.prompt, columns.answer or detected.answer
    if not prompt or (need_answers and not answer):
        raise ValueError(
            f"{where}: no known schema in the columns {', '.join(listed) or '(none)'}; "
            f"rename them, or say which is which with the setting columns; known: {KNOWN_SCHEMAS}"
        )
    return Schema(prompt=prompt, answer=answer, identity=detected.identity)


def _detect(names: frozenset[str]) -> Schema:
    if names >= _RECIPE:
        index = "extra_info.index" if "extra_info" in names else None
        return Schema(prompt=("prompt",), answer=("reward_model.ground_truth",), identity=index)
    prompt, answer, identity = (
        tuple(name for name in known if name in names)[:1]
        for known in (PROMPT_COLUMNS, ANSWER_COLUMNS, ID_COLUMNS)
    )
    return Schema(prompt=prompt, answer=answer, identity=identity[0] if identity else None)


def _as_names(side: str, value: Any) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if (
        not isinstance(names, list | tuple)
        or not names
        or not all(isinstance(name, str) and name for name in names)
    ):
        raise ValueError(
            f"columns={{{side!r}: {value!r}}}: must be the name of a column or a list of names"
        )
    return tuple(names)
