"""The records of `rllib-dapo sft`: read, checked, and refused with their line and the reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rllib_dapo.envs.messages import Conversation, as_conversation
from rllib_dapo.envs.text_files import Utf8Faults, read_lines, unpacked_suffix
from rllib_dapo.findings import SettingsError, one_line

FORMS = '{"prompt", "response"} or {"messages": [...]}'
_LINES = (".jsonl", ".ndjson")
_SHOWN = 5  # bad records that a refusal names


@dataclass(frozen=True, kw_only=True, slots=True)
class SFTRecord:
    """One record.

    Attributes:
        place: Where it stands in its file, such as `line 3`.
        prompt: What stands before the first words that are to be learnt.
        turns: The policy's words, and what is said back, in turn; see `supervised_tokens`.
    """

    place: str
    prompt: Conversation
    turns: tuple[str | Conversation, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordFile:
    """What a file holds.

    Attributes:
        records: The records, in the file's order.
        unused: Names of the fields that records have besides, which nothing looks at.
    """

    records: tuple[SFTRecord, ...]
    unused: tuple[str, ...]


def read_records(path: Path) -> RecordFile:
    """Reads a file of records, all of which must be sound.

    Args:
        path: A `.jsonl` or `.ndjson` file, packed or not, or a `.parquet` file.

    Raises:
        SettingsError: If it cannot be read, has no record, or has bad ones; one line that names the
            first of these with the reason.
    """
    if not path.is_file():
        raise SettingsError(f"FILE {path}: there is no such file")

    records: list[SFTRecord] = []
    unused: dict[str, None] = {}
    bad: list[tuple[str, str]] = []
    try:
        for place, row in _rows(path):
            try:
                record, others = _read_record(place, row)
            except ValueError as error:
                bad.append((place, one_line(error)))
            else:
                records.append(record)
                unused |= dict.fromkeys(others)
    except (OSError, ValueError) as error:
        raise SettingsError(f"FILE {path}: {one_line(error)}") from error

    refuse_records(path, bad)
    if not records:
        raise SettingsError(f"FILE {path}: holds no record: write one a line, {FORMS}")
    return RecordFile(records=tuple(records), unused=tuple(unused))


def refuse_records(path: Path, bad: list[tuple[str, str]], *, cure: str = "") -> None:
    """Refuses a file that has bad records.

    Args:
        path: The file.
        bad: Place of each bad record, and what is wrong with it.
        cure: The way out; by default to mend or remove the records.

    Raises:
        SettingsError: If there are any; one line.
    """
    if not bad:
        return
    (place, reason), *others = bad
    more = ""
    if others:
        named = ", ".join(place for place, _ in others[: _SHOWN - 1])
        rest = len(others) - len(others[: _SHOWN - 1])
        more = f" (so are {len(others)} more: {named}{f' and {rest} others' if rest else ''})"
    cure = cure or "mend or remove them"
    raise SettingsError(f"FILE {path}: {place} is refused: {reason}{more}; {cure}")


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Each row with its place.

    Raises:
        ValueError: If the file cannot be read; one line.
    """
    suffix = unpacked_suffix(path)
    if suffix in _LINES:
        yield from _json_lines(path)
    elif suffix == ".parquet":
        yield from _parquet_rows(path)
    else:
        raise ValueError(f"must end in {', '.join(_LINES)} or .parquet")


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    faults = Utf8Faults(str(path))
    for number, text in read_lines(path, str(path), faults):
        if faults.damaged:
            raise ValueError(f"line {faults.first} is not UTF-8: save the file as UTF-8")
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            row = _Unreadable(f"it is not valid JSON ({one_line(error)})")
        yield f"line {number}", row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    # A column that other rows have is None here.
                    yield f"row {number}", {k: v for k, v in row.items() if v is not None}
    except pyarrow.ArrowException as error:
        raise ValueError(f"is not a readable Parquet file ({one_line(error)})") from error


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """A line that holds nothing that could be read."""

    reason: str


def _read_record(place: str, row: Any) -> tuple[SFTRecord, list[str]]:
    """The record of a row, and the names of the fields that are not used.

    Raises:
        ValueError: If it is no record; the reason.
    """
    if isinstance(row, _Unreadable):
        raise ValueError(row.reason)
    if not isinstance(row, Mapping):
        raise ValueError(f"it is a {type(row).__name__}, not {FORMS}")

    has_pair = "prompt" in row or "response" in row
    if has_pair == ("messages" in row):
        fields = ", ".join(map(str, row)) or "none"
        raise ValueError(f"it must be {FORMS}, and its fields are: {fields}")
    if has_pair:
        used: tuple[str, ...] = ("prompt", "response")
        missing = [name for name in used if name not in row]
        if missing:
            raise ValueError(f"it has no {missing[0]}")
        record = _pair(place, row["prompt"], row["response"])
    else:
        used = ("messages",)
        record = _conversation(place, row["messages"])
    return record, [str(name) for name in row if name not in used]


def _pair(place: str, prompt: Any, response: Any) -> SFTRecord:
    if not isinstance(response, str):
        raise ValueError(f"its response is a {type(response).__name__}, not a text")
    if not prompt:
        raise ValueError("its prompt is empty")
    _refuse_empty(response, "its response")
    return SFTRecord(place=place, prompt=as_conversation(prompt), turns=(response,))


def _conversation(place: str, messages: Any) -> SFTRecord:
    if not isinstance(messages, list) or not messages:
        raise ValueError("its messages are not a list with one message or more")
    # No prompt ends with the assistant's words; here the last message must be just that.
    last = messages[-1]
    if not isinstance(last, Mapping) or last.get("role") != "assistant":
        raise ValueError("its last message is not the assistant's, so nothing is to be learnt")

    answered = as_conversation([*messages, {"role": "user", "content": "-"}])[:-1]
    prompt, *turns = _in_turn(answered)
    if not prompt:
        raise ValueError("its first message is the assistant's, and there is no prompt before it")
    for turn in turns[::2]:
        _refuse_empty(turn, "a message of the assistant")
    assert not isinstance(prompt, str)
    return SFTRecord(place=place, prompt=prompt, turns=tuple(turns))


def _in_turn(conversation: Conversation) -> list[str | Conversation]:
    """Cuts a conversation into what the others say and what the assistant says, in turn."""
    parts: list[str | Conversation] = []
    others: Conversation = ()
    for place, message in enumerate(conversation):
        if message.role != "assistant":
            others = (*others, message)
            continue
        if place and not others:
            raise ValueError("two messages of the assistant follow each other")
        parts += [others, message.content]
        others = ()
    return parts


def _refuse_empty(text: Any, what: str) -> None:
    if not str(text).strip():
        raise ValueError(f"{what} is empty")
