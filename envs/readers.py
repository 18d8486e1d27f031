"""Reading problem files: JSON lines and Parquet, with the columns that published math data sets use."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rllib_dapo.envs.normalize import unbox

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PROMPT_COLUMNS = ("question", "problem", "prompt", "input")
ANSWER_COLUMNS = ("answer", "final_answer", "expected_answer", "ground_truth", "target", "solution")
ID_COLUMNS = ("problem_id", "unique_id", "id", "idx", "index")

SUFFIXES = (".parquet", ".jsonl", ".json")

KNOWN_SCHEMAS = (
    "prompt + reward_model.ground_truth (DAPO-Math-17k), question + answer (GSM8K), input + target (MAWPS), "
    f"or one of {'/'.join(PROMPT_COLUMNS)} with one of {'/'.join(ANSWER_COLUMNS)}"
)

RawRow: TypeAlias = tuple[Any, Any, Any]  # prompt, answer, identity, as the file has them
_BATCH_ROWS = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class Schema:
    """Where a file keeps what; a dot leads into a nested column.

    Attributes:
        prompt: The column with the prompt, a text or a list of chat messages.
        answer: The column with the ground truth.
        identity: The column with a name for the row, if there is one.
    """

    prompt: str
    answer: str
    identity: str | None


def detect_schema(columns: Iterable[str]) -> Schema | None:
    """Returns the schema that a set of top-level columns stands for, or None if it is unknown."""
    names = set(columns)
    if {"prompt", "reward_model"} <= names:
        identity = "extra_info.index" if "extra_info" in names else None
        return Schema(prompt="prompt", answer="reward_model.ground_truth", identity=identity)
    prompt, answer, identity = (
        next((name for name in known if name in names), None) for known in (PROMPT_COLUMNS, ANSWER_COLUMNS, ID_COLUMNS)
    )
    return Schema(prompt=prompt, answer=answer, identity=identity) if prompt and answer else None


def read_rows(path: Path) -> Iterator[RawRow]:
    """Yields the rows of a file, one tuple of prompt, answer and identity each; the prompt is a text or None.

    Raises:
        ValueError: If the file's kind, its columns or one of its lines cannot be read.
    """
    readers = {".parquet": _read_parquet, ".jsonl": _read_json_lines, ".json": _read_json_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"path={str(path)!r}: cannot tell what kind of file it is; known endings: {' '.join(SUFFIXES)}"
        )
    return reader(path)


def final_answer(value: Any) -> str:
    r"""Returns the ground truth that an answer column's value stands for; empty if it holds none.

    A float without a fraction is written as an integer (43.0 as ``43``); of a worked solution the part after the last
    ``####`` counts (GSM8K), else the inside of the last ``\boxed{}`` (MATH).
    """
    if isinstance(value, float | np.floating):
        return _plain_decimal(float(value))
    if value is None:
        return ""
    text = str(value)
    if "####" in text:
        return text.rpartition("####")[2].strip()
    return unbox(text).strip()


def message_text(value: Any) -> str | None:
    """Returns the prompt as text: as it is, or the content of the last user message of a chat."""
    if isinstance(value, list):
        contents = [m.get("content") for m in value if isinstance(m, Mapping) and m.get("role") == "user"]
        value = contents[-1] if contents else None
    return value if isinstance(value, str) else None


def _read_json_lines(path: Path) -> Iterator[RawRow]:
    schema: Schema | None = None
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            # A file edited on Windows may begin with a byte order mark.
            stripped = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not stripped:
                continue
            row = _parse_line(path, number, stripped)
            schema = schema or _known_schema(path, row)
            identity = _nested(row, schema.identity) if schema.identity else None
            yield message_text(_nested(row, schema.prompt)), _nested(row, schema.answer), identity


def _parse_line(path: Path, number: int, line: bytes) -> Mapping[str, Any]:
    cure = "each line must be one JSON object; mend or remove the line"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"path={str(path)!r}: line {number} is not valid JSON ({error}); {cure}") from None
    if not isinstance(row, dict):
        raise ValueError(f"path={str(path)!r}: line {number} holds a JSON {type(row).__name__}, not an object; {cure}")
    return row


def _nested(row: Any, column: str) -> Any:
    for key in column.split("."):
        row = row.get(key) if isinstance(row, Mapping) else None
    return row


def _read_parquet(path: Path) -> Iterator[RawRow]:
    # pyarrow takes a third of a second to import, which who reads no Parquet need not pay.
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(
            f"path={str(path)!r}: not a readable Parquet file ({error}); write or fetch it again"
        ) from None
    with file:
        schema = _known_schema(path, file.schema_arrow.names)
        wanted = [name.partition(".")[0] for name in (schema.prompt, schema.answer, schema.identity) if name]
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted):
            prompts = _message_texts(batch.column(schema.prompt))
            identities = _plain_column(batch, schema.identity) if schema.identity else [None] * len(prompts)
            yield from zip(prompts, _plain_column(batch, schema.answer), identities, strict=True)


def _plain_column(batch: Any, column: str) -> list[Any]:
    """Returns a column as Python values; NULL and fields that are not there become None."""
    name, _, field = column.partition(".")
    values = batch.column(name)
    return list(_field(values, field) if field else _values(values))


def _message_texts(column: Any) -> list[str | None]:
    """Does what ``message_text`` does for a whole Arrow column; row by row takes ten times as long."""
    from pyarrow import compute, types

    is_list = types.is_list(column.type) or types.is_large_list(column.type)
    if not (is_list and types.is_struct(column.type.value_type)):
        return [message_text(value) for value in _values(column)]
    messages = compute.list_flatten(column)
    is_user = _field(messages, "role") == "user"
    texts = np.full(len(column), None, dtype=object)
    # Where a chat has several user messages, the last one is written last.
    rows = compute.list_parent_indices(column).to_numpy()[is_user]
    texts[rows] = _field(messages, "content")[is_user]
    return list(texts)


def _field(structs: Any, name: str) -> NDArray[np.object_]:
    from pyarrow import compute, types

    if not types.is_struct(structs.type) or structs.type.get_field_index(name) < 0:
        return np.full(len(structs), None, dtype=object)
    return _values(compute.struct_field(structs, name))


def _values(array: Any) -> NDArray[np.object_]:
    from pyarrow import types

    if types.is_string(array.type) or types.is_large_string(array.type):
        return array.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]  # several times faster than a list
    values = np.empty(len(array), dtype=object)
    values[:] = array.to_pylist()
    return values


def _known_schema(path: Path, columns: Iterable[str]) -> Schema:
    names = list(columns)
    schema = detect_schema(names)
    if schema is None:
        raise ValueError(
            f"path={str(path)!r}: no known schema in the columns {', '.join(names) or '(none)'}; rename them; "
            f"known: {KNOWN_SCHEMAS}"
        )
    return schema


def _plain_decimal(value: float) -> str:
    if not np.isfinite(value):
        return ""
    return str(int(value)) if value.is_integer() else format(Decimal(repr(value)), "f")
