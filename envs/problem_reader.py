"""Rows as problems: each row is read, or left out and counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rllib_dapo.envs.answer_cells import UnusableAnswerError, answer_as_data, final_answer
from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.carried_columns import carried
from rllib_dapo.envs.messages import Conversation, plain_text
from rllib_dapo.envs.problem_text import well_formed, well_formed_prompt
from rllib_dapo.envs.prompt_cells import read_prompt, with_system
from rllib_dapo.envs.readers import SourceRows
from rllib_dapo.envs.row_counts import (
    CONFLICT,
    CUT,
    DUPLICATE,
    NO_ANSWER,
    NO_PROMPT,
    RENAMED,
    REPLACED,
    TOO_LONG,
    UNREADABLE_PROMPT,
    UNUSABLE_ANSWER,
    RowCounts,
    SourceReport,
)
from rllib_dapo.envs.schema import Columns, Schema
from rllib_dapo.envs.sources import Source

_SAY_EVERY: Final = 3.0  # seconds between lines about progress
_LOOK_EVERY: Final = 8_192  # rows between looks at the clock
_LONGEST_ID: Final = 200  # characters


class _LeftOut(Exception):
    """A row that is left out: the reason and what was found."""


@dataclass(kw_only=True, slots=True)
class ProblemReader:
    """Reads one source after the other, and keeps each prompt once.

    Attributes:
        columns: What `check_columns` returned.
        longest: Most characters of a prompt.
        need_answers: Whether rows without an answer are left out.
        answers_as_data: Whether lists and mappings are carried as JSON; see `load_dataset`.
        keep_columns: Whether problems carry all columns of their rows.
        say: Receives lines about progress.
    """

    columns: Columns
    longest: int
    need_answers: bool
    answers_as_data: bool
    keep_columns: bool
    say: Callable[[str], None]
    _kept: dict[str | Conversation, Problem] = field(default_factory=dict, init=False)
    _names: set[str] = field(default_factory=set, init=False)
    # A file with many rows has few different answers.
    _answers: dict[str, str] = field(default_factory=dict, init=False)

    @property
    def num_problems(self) -> int:
        """How many problems were kept so far."""
        return len(self._kept)

    @property
    def problems(self) -> list[Problem]:
        """The problems that were kept so far."""
        return list(self._kept.values())

    def read(self, source: Source, stem: str) -> SourceReport:
        """Reads a source.

        Args:
            source: One of what `find_sources` returned.
            stem: Beginning of the ids of its problems.

        Raises:
            ValueError: If it cannot be read, or its answers are of a kind that nothing can be
                compared with.
        """
        rows = SourceRows(
            source=source,
            columns=self.columns,
            need_answers=self.need_answers,
            keep_columns=self.keep_columns,
        )
        counts = RowCounts()
        before, number = len(self._kept), 0

        said = time.monotonic()
        for number, row in enumerate(rows, start=1):
            if number % _LOOK_EVERY == 0 and time.monotonic() - said > _SAY_EVERY:
                said = time.monotonic()
                self.say(f"{source}: {number:,} rows read, {len(self._kept):,} problems")
            assert rows.schema is not None
            self._add(row, number, rows, counts, stem)

        if rows.faults.damaged:
            counts.add("changed", REPLACED, rows.faults.first, rows=rows.faults.damaged)
        schema = rows.schema or Schema(prompt=(), answer=())
        return SourceReport(
            source=str(source),
            columns=_taken(schema),
            unused=schema.unused,
            rows=number,
            problems=len(self._kept) - before,
            findings=counts.findings(),
        )

    def _add(self, row: Any, number: int, rows: SourceRows, counts: RowCounts, stem: str) -> None:
        cells, raw_answers, system, identity, all_columns = row
        schema = rows.schema
        assert schema is not None

        try:
            prompt, reply = self._prompt(cells, system, schema)
            if reply is not None and schema.answer:
                counts.change(CUT, number)
            answer = self._answer(raw_answers if schema.answer else (reply,))
        except _LeftOut as left_out:
            counts.leave_out(left_out.args[0], number, left_out.args[1])
            return
        except UnusableAnswerError as error:
            if error.fields:
                raise ValueError(_kind_refused(rows, number, error)) from None
            counts.leave_out(UNUSABLE_ANSWER, number, error)
            return

        if prompt in self._kept:
            self._count_repeated(prompt, answer, number, counts)
            return
        mended, sound = well_formed_prompt(prompt), well_formed(answer)
        if mended is not prompt or sound is not answer:
            counts.change(REPLACED, number)
            if mended in self._kept:
                self._count_repeated(mended, sound, number, counts)
                return
        name = self._name(stem, identity, number, counts)
        self._kept[mended] = Problem(
            prompt=mended,
            answer=sound,
            problem_id=name,
            columns=carried(all_columns()) if self.keep_columns else {},
        )

    def _prompt(
        self, cells: Sequence[Any], system: Any, schema: Schema
    ) -> tuple[str | Conversation, Any]:
        """Returns a row's prompt, and what the assistant says after it."""
        reply = None
        if len(cells) == 1:
            cell = cells[0]
            if isinstance(cell, str) and cell[:1] != "[":
                prompt: str | Conversation = cell.strip()
            else:
                prompt, reply = _read_cell(cell)
        else:
            prompt = _joined_prompt(cells, schema)
        if not prompt:
            raise _LeftOut(NO_PROMPT, "")

        if system is not None:
            try:
                prompt = with_system(prompt, system)
            except ValueError as error:
                raise _LeftOut(UNREADABLE_PROMPT, error) from None

        length = len(prompt) if isinstance(prompt, str) else len(plain_text(prompt))
        if length > self.longest:
            raise _LeftOut(TOO_LONG, f"{length:,} characters")
        return prompt, reply

    def _answer(self, values: Sequence[Any]) -> str:
        parts = [self._part(value) for value in values]
        answer = parts[0] if len(parts) == 1 else " ".join(parts) if all(parts) else ""
        if self.need_answers and not answer:
            raise _LeftOut(NO_ANSWER, values[0] if len(values) == 1 and values[0] else "")
        return answer

    def _part(self, value: Any) -> str:
        """Returns one column's part of the answer."""
        read = answer_as_data if self.answers_as_data else final_answer
        if not isinstance(value, str):
            return read(value).strip()
        if value not in self._answers:
            self._answers[value] = read(value).strip()
        return self._answers[value]

    def _count_repeated(
        self, prompt: str | Conversation, answer: str, number: int, counts: RowCounts
    ) -> None:
        kept = self._kept[prompt].answer
        if kept == answer:
            counts.leave_out(DUPLICATE, number)
        else:
            counts.leave_out(CONFLICT, number, f"{answer} instead of {kept}")

    def _name(self, stem: str, identity: Any, number: int, counts: RowCounts) -> str:
        """Returns an id that no other problem has."""
        own = identity if isinstance(identity, str | int | float) else None
        shown = number - 1 if own is None else own
        name = well_formed(" ".join(f"{stem}/{shown}".split()))[:_LONGEST_ID]

        if name in self._names:
            counts.change(RENAMED, number)
            base, again = name, number - 1
            while name in self._names:
                name = f"{base}#{again}"
                again += 1
        self._names.add(name)
        return name


def _read_cell(cell: Any) -> tuple[str | Conversation, Any]:
    try:
        found = read_prompt(cell)
    except ValueError as error:
        raise _LeftOut(UNREADABLE_PROMPT, error) from None
    prompt = found.prompt
    return prompt.strip() if isinstance(prompt, str) else prompt, _reply_text(found.reply)


def _reply_text(reply: Any) -> Any:
    """Returns the assistant's words as one text where they are a list of parts."""
    if not isinstance(reply, list):
        return reply
    texts = [part.get("text") if isinstance(part, dict) else part for part in reply]
    return "\n".join(text for text in texts if isinstance(text, str))


def _joined_prompt(cells: Sequence[Any], schema: Schema) -> str:
    """Joins the texts of several columns; empty if one is missing that must be there."""
    parts = []
    for name, cell in zip(schema.prompt, cells, strict=True):
        prompt, _ = _read_cell(cell)
        if not isinstance(prompt, str):
            raise _LeftOut(UNREADABLE_PROMPT, f"{name} is a conversation, beside other columns")
        if not prompt and name not in schema.optional:
            return ""
        parts.append(prompt)
    # What an instruction is about stands apart from it.
    return ("\n\n" if schema.optional else " ").join(part for part in parts if part)


def _kind_refused(rows: SourceRows, number: int, error: UnusableAnswerError) -> str:
    column = " + ".join(rows.schema.answer) if rows.schema else ""
    return (
        f"{rows.where}: row {number}: {error}, and nothing can be compared with that; name the "
        f'field that holds the answer, as in columns={{"answer": "{column}.{error.fields[0]}"}}'
    )


def _taken(schema: Schema) -> dict[str, tuple[str, ...]]:
    answer = schema.answer or (("last message",) if schema.prompt else ())
    single = {"system": schema.system, "id": schema.identity}
    return {
        "prompt": schema.prompt,
        "answer": answer,
        **{side: (name,) for side, name in single.items() if name},
    }
