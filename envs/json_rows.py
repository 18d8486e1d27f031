"""Rows of a JSON file: one object a line, or one document with all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

from rllib_dapo.envs.text_files import Utf8Faults, open_text, read_lines

Row = Mapping[str, Any]

_LARGEST_DOCUMENT: Final = 2**30  # bytes; one that is not in lines is read as a whole
_ROW_KEYS = ("data", "rows", "train", "examples", "problems", "questions", "items", "instances")
_CURE = "each line must be one JSON object, or the file one list of them"


def read_json_rows(path: Path, where: str, faults: Utf8Faults) -> Iterator[Row]:
    """Yields the rows of a JSON file.

    The file holds an object on each line; or a list of objects; or an object that holds such a
    list, as under `data`. In place of an object there may be a conversation, which is a row with
    nothing but `messages`.

    Args:
        path: Path of the file, packed or not.
        where: Name of the file, for messages.
        faults: Counts what is not UTF-8.

    Raises:
        ValueError: If a line or the document is not such JSON; one line.
    """
    lines = read_lines(path, where, faults)
    first = next(lines, None)
    if first is None:
        return
    number, text = first
    if text in ("[", "{") or (text[0] == "[" and not _is_json(text)):
        yield from _document_rows(_read_document(path, where), where)
        return

    value = _parse(where, number, text)
    second = next(lines, None)
    if second is None:
        yield from _document_rows(value, where)
        return
    yield _line_row(where, number, value)
    for number, text in chain([second], lines):
        yield _line_row(where, number, _parse(where, number, text))


def dig(row: Any, column: str) -> Any:
    """Returns a field of a row; a dot leads into nested objects, also into one kept as JSON text.

    Args:
        row: The row.
        column: Name of the field, or of several joined by dots.

    Returns:
        None if it is not there.
    """
    if column in row:
        return row[column]
    for key in column.split("."):
        if isinstance(row, str) and row[:1] == "{":
            try:
                row = json.loads(row)
            except (ValueError, RecursionError):
                return None
        row = row.get(key) if isinstance(row, Mapping) else None
    return row


def _parse(where: str, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{where}: line {number} is not valid JSON ({error}); {_CURE}; mend or remove the line"
        ) from None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _line_row(where: str, number: int, value: Any) -> Row:
    row = _as_row(value)
    if row is None:
        raise ValueError(
            f"{where}: line {number} holds a JSON {type(value).__name__}, not an object; {_CURE}"
        )
    return row


def _as_row(value: Any) -> Row | None:
    if isinstance(value, dict):
        return value
    is_chat = isinstance(value, list) and value and all(isinstance(one, dict) for one in value)
    return {"messages": value} if is_chat else None


def _read_document(path: Path, where: str) -> Any:
    with open_text(path, where) as file:
        content = file.read(_LARGEST_DOCUMENT + 1)
    if len(content) > _LARGEST_DOCUMENT:
        raise ValueError(
            f"{where}: is one JSON document of more than {_LARGEST_DOCUMENT} bytes; write it as "
            "JSON lines, which are read one by one"
        )
    try:
        return json.loads(content.decode(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: is not valid JSON ({error}); {_CURE}") from None


def _document_rows(value: Any, where: str) -> Iterator[Row]:
    for number, one in enumerate(_listed(value), start=1):
        row = _as_row(one)
        if row is None:
            raise ValueError(
                f"{where}: item {number} is a JSON {type(one).__name__}, not an object; {_CURE}"
            )
        yield row


def _listed(value: Any) -> list[Any]:
    """Returns the rows of a document: its list, or the one that its object holds."""
    if isinstance(value, list):
        is_chat = bool(value) and all(isinstance(one, dict) and "role" in one for one in value)
        return [value] if is_chat else value
    if not isinstance(value, dict):
        return [value]

    lists = {key: rows for key, rows in value.items() if _holds_rows(rows)}
    if len(lists) == len(value) == 1 and not _is_chat(*lists.values()):
        return list(*lists.values())
    for key in _ROW_KEYS:
        if key in lists:
            return list(lists[key])
    if len(value) > 1 and all(isinstance(one, dict) for one in value.values()):
        return list(value.values())
    return [value]


def _holds_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _is_chat(rows: list[Mapping[str, Any]]) -> bool:
    return "role" in rows[0] or "from" in rows[0]
