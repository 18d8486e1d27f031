"""Reading problems: JSON lines, CSV, Parquet and Hugging Face data sets, row by row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rllib_dapo.envs.normalize import unbox
from rllib_dapo.envs.schema import Columns, Schema, find_schema
from rllib_dapo.envs.sources import FileSource, HubSource, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")

# Prompt, answer and identity, as the file has them.
RawRow: TypeAlias = tuple[tuple[Any, ...], tuple[Any, ...], Any]
_BATCH_ROWS = 65_536
_CSV_BLOCK_BYTES = 16_777_216  # no row of a CSV file may be longer


def read_rows(source: Source, columns: Columns, *, need_answers: bool) -> Iterator[RawRow]:
    """Yields the rows of a file or data set.

    Args:
        source: One of what `find_sources` returned.
        columns: What `check_columns` returned.
        need_answers: Whether a file without answers is refused; if not, its rows have no answers.

    Yields:
        Texts (or None) of the prompt's columns, values of the answer's columns, and identity.

    Raises:
        ValueError: If the source's kind, its columns or one of its lines cannot be read.
    """
    if isinstance(source, HubSource):
        return _read_hub(source, columns, need_answers)

    readers = {
        ".parquet": _read_parquet,
        ".jsonl": _read_json_lines,
        ".json": _read_json_lines,
        ".csv": _read_csv,
    }
    reader = readers.get(source.path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"{_where(source)}: cannot tell what kind of file it is; "
            f"known endings: {' '.join(SUFFIXES)}"
        )
    return reader(source, columns, need_answers)


def final_answer(value: Any) -> str:
    r"""Returns the ground truth in an answer column's value; empty if there is none.

    A float without a fraction is written as an integer (43.0 as `43`). Of a worked solution the
    part after the last `####` counts (GSM8K), or else the inside of the last `\boxed{}` (MATH).
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
    """Returns the prompt: the text itself, or the content of the last user message of a chat."""
    if isinstance(value, list):
        contents = [
            m.get("content") for m in value if isinstance(m, Mapping) and m.get("role") == "user"
        ]
        value = contents[-1] if contents else None
    return value if isinstance(value, str) else None


def _where(source: Source) -> str:
    named = {"dataset": source.dataset} if isinstance(source, HubSource) else str(source.path)
    return f"path={named!r}"


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _read_json_lines(source: FileSource, columns: Columns, need_answers: bool) -> Iterator[RawRow]:
    schema: Schema | None = None
    with source.path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            # A file edited on Windows may begin with a byte order mark.
            stripped = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not stripped:
                continue

            row = _parse_line(source, number, stripped)
            schema = schema or find_schema(_where(source), row, columns, need_answers=need_answers)
            prompt = tuple(message_text(_nested(row, name)) for name in schema.prompt)
            identity = _nested(row, schema.identity) if schema.identity else None
            yield prompt, tuple(_nested(row, name) for name in schema.answer), identity


def _parse_line(source: FileSource, number: int, line: bytes) -> Mapping[str, Any]:
    cure = "each line must be one JSON object; mend or remove the line"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{_where(source)}: line {number} is not valid JSON ({error}); {cure}"
        ) from None
    if not isinstance(row, dict):
        raise ValueError(
            f"{_where(source)}: line {number} holds a JSON {type(row).__name__}, "
            f"not an object; {cure}"
        )
    return row


def _nested(row: Any, column: str) -> Any:
    if column in row:
        return row[column]
    for key in column.split("."):
        row = row.get(key) if isinstance(row, Mapping) else None
    return row


def _read_csv(source: FileSource, columns: Columns, need_answers: bool) -> Iterator[RawRow]:
    import pyarrow
    from pyarrow import csv

    reading = {
        "read_options": csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
        "parse_options": csv.ParseOptions(newlines_in_values=True),
    }
    try:
        with csv.open_csv(source.path, **reading) as header:
            names = header.schema.names
        schema = find_schema(_where(source), names, columns, need_answers=need_answers)

        # As texts: read as numbers, 007 and 1.50 would be other answers.
        as_text = csv.ConvertOptions(column_types={name: pyarrow.string() for name in names})
        with csv.open_csv(source.path, convert_options=as_text, **reading) as batches:
            yield from _arrow_rows(batches, schema)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(
            f"{_where(source)}: not a readable CSV file ({_first_line(error)}); "
            "its first line must name the columns, and texts with commas or line breaks "
            "must stand in quotes"
        ) from None


def _read_parquet(source: FileSource, columns: Columns, need_answers: bool) -> Iterator[RawRow]:
    # pyarrow takes a third of a second to import, which only those who read Parquet need to pay.
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(source.path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(
            f"{_where(source)}: not a readable Parquet file ({error}); write or fetch it again"
        ) from None
    with file:
        names = file.schema_arrow.names
        schema = find_schema(_where(source), names, columns, need_answers=need_answers)

        # Of a nested column, all of its top column is read.
        tops = (name if name in names else name.partition(".")[0] for name in schema.names)
        wanted = list(dict.fromkeys(tops))
        yield from _arrow_rows(file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted), schema)


def _read_hub(source: HubSource, columns: Columns, need_answers: bool) -> Iterator[RawRow]:
    data = _load_hub(source)
    schema = find_schema(_where(source), data.column_names, columns, need_answers=need_answers)
    tables = data.with_format("arrow").iter(batch_size=_BATCH_ROWS)
    yield from _arrow_rows((batch for table in tables for batch in table.to_batches()), schema)


def _load_hub(source: HubSource) -> Any:
    try:
        import datasets
    except ImportError:
        raise ValueError(
            f"{_where(source)}: needs the library datasets; pip install datasets"
        ) from None

    folder = Path(source.dataset).expanduser()
    # Hub, network, folder and the data set's own files may raise anything: the message is one line
    # that names the setting.
    try:
        if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
            loaded = datasets.load_from_disk(str(folder))
            return loaded[source.split] if isinstance(loaded, dict) else loaded
        name = str(folder) if folder.is_dir() else source.dataset
        return datasets.load_dataset(
            name, source.name, split=source.split, revision=source.revision
        )
    except Exception as error:
        raise ValueError(
            f"{_where(source)}: split {source.split!r} cannot be loaded: "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error


def _arrow_rows(batches: Iterable[Any], schema: Schema) -> Iterator[RawRow]:
    for batch in batches:
        nothing = [()] * batch.num_rows
        prompts = [_message_texts(_column(batch, name)) for name in schema.prompt]
        answers = [_values(_column(batch, name)) for name in schema.answer]
        identities = _values(_column(batch, schema.identity)) if schema.identity else nothing
        columns = zip(*prompts, strict=True), zip(*answers, strict=True) if answers else nothing
        yield from zip(
            *columns,
            (identity if schema.identity else None for identity in identities),
            strict=True,
        )


def _column(batch: Any, name: str) -> Any:
    """Returns a column of an Arrow batch; fields that are not there are NULL."""
    import pyarrow

    if name in batch.schema.names:
        return batch.column(name)
    top, _, fields = name.partition(".")
    array = batch.column(top)
    for field in fields.split("."):
        array = _field(array, field)
    return pyarrow.nulls(batch.num_rows) if array is None else array


def _field(structs: Any, name: str) -> Any | None:
    from pyarrow import compute, types

    if (
        structs is None
        or not types.is_struct(structs.type)
        or structs.type.get_field_index(name) < 0
    ):
        return None
    return compute.struct_field(structs, name)


def _message_texts(column: Any) -> NDArray[np.object_]:
    """Does what `message_text` does for a whole Arrow column.

    Row by row would take ten times as long.
    """
    from pyarrow import compute, types

    texts = np.full(len(column), None, dtype=object)
    is_list = types.is_list(column.type) or types.is_large_list(column.type)
    if not (is_list and types.is_struct(column.type.value_type)):
        texts[:] = [message_text(value) for value in _values(column)]
        return texts

    messages = compute.list_flatten(column)
    roles, contents = _field(messages, "role"), _field(messages, "content")
    if roles is not None and contents is not None:
        is_user = _values(roles) == "user"
        # If a chat has several user messages, the last one is written last and stays.
        texts[compute.list_parent_indices(column).to_numpy()[is_user]] = _values(contents)[is_user]
    return texts


def _values(array: Any) -> NDArray[np.object_]:
    """Returns an Arrow array as Python values; NULL becomes None."""
    from pyarrow import types

    if types.is_string(array.type) or types.is_large_string(array.type):
        # Several times faster than a list.
        return array.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
    return np.fromiter(array.to_pylist(), dtype=object, count=len(array))


def _plain_decimal(value: float) -> str:
    if not np.isfinite(value):
        return ""
    return str(int(value)) if value.is_integer() else format(Decimal(repr(value)), "f")
