"""Which columns of a problem file hold the prompt, the answer and a name for the row."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rllib_dapo.envs.prompt_cells import ends_with_assistant

# In the order in which they are preferred. Names are compared without regard to case, and `-` and
# spaces count as `_`.
PROMPT_COLUMNS = ("question", "problem", "prompt", "query")
CHAT_COLUMNS = ("messages", "conversations", "conversation")
_TASK_COLUMNS = ("instruction", "input")  # of Alpaca's files: the second may be empty
ANSWER_COLUMNS = (
    *("answer", "final_answer", "expected_answer", "correct_answer", "gold_answer"),
    *("ground_truth", "target", "solution", "response", "output", "completion"),
)
SYSTEM_COLUMNS = ("system_prompt", "system_message", "system")
ID_COLUMNS = ("problem_id", "unique_id", "id", "idx", "index")

KNOWN_SCHEMAS = (
    "prompt + reward_model.ground_truth (DAPO-Math-17k), question + answer (GSM8K), "
    "input + target (MAWPS), instruction + input + output (Alpaca), "
    f"one of {'/'.join(PROMPT_COLUMNS)} with one of {'/'.join(ANSWER_COLUMNS)}, "
    f"or {'/'.join(CHAT_COLUMNS)} whose last message is the answer; capitals do not matter"
)
SIDES = ("question", "answer", "system")
_RECIPE = ("prompt", "reward_model")  # of the public DAPO recipe's files


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """What the setting `columns` says.

    An empty side is told from the names of the file's columns.

    Attributes:
        question: Names of the columns whose texts, joined by a space, are the prompt.
        answer: Names of the columns whose answers, joined by a space, are the ground truth.
        system: Name of the column with the system message.
    """

    question: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()
    system: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Schema:
    """Which columns of a file hold what; a dot leads into a nested column.

    Attributes:
        prompt: Names of the columns with the prompt, each a text or a list of chat messages.
        answer: Names of the columns with the ground truth. Empty if the file has none: then it is
            what the assistant says at the end of the prompt, if anything.
        system: Name of the column with the system message, if there is one.
        identity: Name of the column that names the row, if there is one.
        optional: Those of the prompt's columns that may be empty.
        unused: Names of the top-level columns that are not read.
    """

    prompt: tuple[str, ...]
    answer: tuple[str, ...]
    system: str | None = None
    identity: str | None = None
    optional: tuple[str, ...] = ()
    unused: tuple[str, ...] = field(default=(), compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns that are read."""
        single = (name for name in (self.system, self.identity) if name)
        return (*self.prompt, *self.answer, *single)


def check_columns(value: Any) -> Columns:
    """Checks the setting `columns`: None, or a mapping from "question" and "answer" to columns.

    Raises:
        ValueError: If it is neither.
    """
    if value is None:
        return Columns()
    if not isinstance(value, Mapping) or not set(value) <= set(SIDES):
        raise ValueError(
            f"columns={value!r}: must say where the file keeps what, as in "
            '{"question": "problem", "answer": ["value", "unit"]}; '
            f"the sides are {', '.join(SIDES)}, and any may be left out"
        )
    columns = Columns(**{side: _as_names(side, names) for side, names in value.items()})
    if len(columns.system) > 1:
        raise ValueError(f"columns={value!r}: the system message is in one column, not several")
    return columns


def detect_schema(columns: Iterable[str]) -> Schema | None:
    """Returns the schema that a set of top-level columns stands for, or None if it is unknown."""
    schema = _detect(list(columns), ())
    return schema if schema.prompt and schema.answer else None


def candidate_columns(names: Iterable[str], columns: Columns) -> list[str]:
    """Returns those of a file's top-level columns that a look at their values may decide about."""
    known = {*PROMPT_COLUMNS, *CHAT_COLUMNS, *_TASK_COLUMNS, *ANSWER_COLUMNS}
    named = {name.partition(".")[0] for name in columns.question}
    return [name for name in names if _plain(name) in known or name in named]


def find_schema(
    where: str,
    names: Iterable[str],
    columns: Columns,
    *,
    need_answers: bool,
    sample: Sequence[Mapping[str, Any]] = (),
) -> Schema:
    """Returns which columns of a file hold what.

    Args:
        where: Name of the file, for messages.
        names: Names of its top-level columns.
        columns: What the user says about them; the rest is told from their names.
        need_answers: Whether a file without answers is refused.
        sample: Some of its rows, which tell columns that are hardly ever filled.

    Raises:
        ValueError: If a column that the user names is not there, a column that is needed is there
            twice, or the names stand for no known schema.
    """
    listed = list(names)
    for name in (*columns.question, *columns.answer, *columns.system):
        if name not in listed and name.partition(".")[0] not in listed:
            close = difflib.get_close_matches(name, listed, n=1)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"{where}: columns names {name!r}, but there are {_listing(listed)}{guess}"
            )

    detected = _detect(listed, sample)
    prompt, answer = columns.question or detected.prompt, columns.answer or detected.answer
    in_chat = len(prompt) == 1 and any(ends_with_assistant(row.get(prompt[0])) for row in sample)
    if not prompt or (need_answers and not answer and not in_chat):
        raise ValueError(
            f"{where}: no known schema in the columns {_listing(listed)}; "
            f"rename them, or say which is which with the setting columns; known: {KNOWN_SCHEMAS}"
        )

    schema = Schema(
        prompt=prompt,
        answer=answer,
        system=columns.system[0] if columns.system else detected.system,
        identity=detected.identity,
        optional=() if columns.question else detected.optional,
    )
    tops = {name if name in listed else name.partition(".")[0] for name in schema.names}
    for top in tops:
        if listed.count(top) > 1:
            raise ValueError(f"{where}: the column {top!r} is there twice; rename one of the two")
    return replace(schema, unused=tuple(name for name in dict.fromkeys(listed) if name not in tops))


def _detect(names: list[str], sample: Sequence[Mapping[str, Any]]) -> Schema:
    own: dict[str, str] = {}
    for name in names:
        own.setdefault(_plain(name), name)
    own |= {name: name for name in names}  # a name that is spelt as known wins
    filled = {name: sum(_is_filled(row.get(name)) for row in sample) for name in own.values()}

    def first(known: Iterable[str]) -> tuple[str, ...]:
        there = [own[name] for name in known if name in own]
        most = max((filled[name] for name in there), default=0)
        # The order decides, unless a column is nearly empty where another one is full.
        return tuple(name for name in there if 2 * filled[name] >= most)[:1]

    identity = first(ID_COLUMNS)
    is_recipe = all(name in own for name in _RECIPE)
    if is_recipe and "extra_info" in own:
        identity = (f"{own['extra_info']}.index",)

    optional: tuple[str, ...] = ()
    prompt = first(("prompt",) if is_recipe else PROMPT_COLUMNS) or first(CHAT_COLUMNS)
    if not prompt and all(name in own for name in _TASK_COLUMNS):
        prompt = tuple(own[name] for name in _TASK_COLUMNS)
        optional = prompt[1:]
    prompt = prompt or first(_TASK_COLUMNS)

    answer = (f"{own['reward_model']}.ground_truth",) if is_recipe else first(ANSWER_COLUMNS)
    # `system` alone may be anything; beside a conversation or an instruction it is the message.
    known_system = (
        SYSTEM_COLUMNS if optional or prompt == first(CHAT_COLUMNS) else SYSTEM_COLUMNS[:2]
    )
    system = first(known_system)
    return Schema(
        prompt=prompt,
        answer=answer,
        system=system[0] if system else None,
        identity=identity[0] if identity else None,
        optional=optional,
    )


def _plain(name: str) -> str:
    """Returns a column's name as it is compared: `Final Answer` is `final_answer`."""
    return re.sub(r"[\s_-]+", "_", name.strip().removeprefix("\ufeff").strip().casefold())


def _is_filled(value: Any) -> bool:
    return value is not None and (not isinstance(value, str | list | dict) or bool(value))


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(names[:30]) or "(none)"
    return f"{shown} and {len(names) - 30} more" if len(names) > 30 else shown


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
