"""Rows of Arrow tables, column by column: one by one they would take ten times as long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rllib_dapo.envs.carried_columns import distinct
from rllib_dapo.envs.json_rows import dig
from rllib_dapo.envs.prompt_cells import unpacked
from rllib_dapo.envs.schema import Schema
from rllib_dapo.envs.text_files import Utf8Faults

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Prompt, answer, system message and identity, as the file has them; and what returns all columns of
# the row that were read, which few rows are asked for.
RawRow: TypeAlias = tuple[
    tuple[Any, ...], tuple[Any, ...], Any, Any, Callable[[], Mapping[str, Any]]
]


def arrow_rows(batches: Iterable[Any], schema: Schema, faults: Utf8Faults) -> Iterator[RawRow]:
    """Yields the rows of Arrow batches.

    Args:
        batches: The batches, with all columns that the schema names.
        schema: Which column holds what.
        faults: Counts what is not UTF-8.
    """
    before = 0
    for batch in batches:
        rows = np.arange(before + 1, before + 1 + batch.num_rows)
        nothing = [()] * batch.num_rows
        nones = [None] * batch.num_rows

        prompts = [_prompts(_column(batch, name), faults, rows) for name in schema.prompt]
        answers = [_values(_column(batch, name), faults, rows) for name in schema.answer]
        systems, identities = (
            _values(_column(batch, name), faults, rows) if name else nones
            for name in (schema.system, schema.identity)
        )

        yield from zip(
            zip(*prompts, strict=True),
            zip(*answers, strict=True) if answers else nothing,
            systems,
            identities,
            (partial(_all_columns, batch, row) for row in range(batch.num_rows)),
            strict=True,
        )
        before += batch.num_rows


def sample_rows(batch: Any, names: Iterable[str]) -> list[dict[str, Any]]:
    """Returns the rows of an Arrow batch as mappings, for a look at what columns hold.

    Args:
        batch: The batch.
        names: Names of the columns to look at.
    """
    there = batch.schema.names
    faults, rows = Utf8Faults(""), np.arange(1, batch.num_rows + 1)
    columns = {
        name: _values(batch.column(there.index(name)), faults, rows)
        for name in names
        if there.count(name) == 1
    }
    return [
        {name: column[row] for name, column in columns.items()} for row in range(batch.num_rows)
    ]


def _all_columns(batch: Any, row: int) -> dict[str, Any]:
    # What is not UTF-8 in prompts and answers has been counted.
    faults, number = Utf8Faults(""), np.array([row + 1])
    cells = (_values(column.slice(row, 1), faults, number)[0] for column in batch.columns)
    return dict(zip(distinct(batch.schema.names), cells, strict=True))


def _column(batch: Any, name: str) -> Any:
    """Returns a column of an Arrow batch; fields that are not there are NULL."""
    import pyarrow
    from pyarrow import types

    if name in batch.schema.names:
        return batch.column(name)
    top, _, fields = name.partition(".")
    array = batch.column(top)
    if types.is_string(array.type) or types.is_large_string(array.type):
        # An object that is kept as JSON text, as in a CSV file.
        return [dig({top: value}, name) for value in array.to_pylist()]
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


def _prompts(column: Any, faults: Utf8Faults, rows: NDArray[np.int64]) -> NDArray[np.object_]:
    """Returns a prompt column's values; of a single message of the user, the text alone."""
    from pyarrow import compute, types

    if isinstance(column, list):
        return _values(column, faults, rows)
    is_list = types.is_list(column.type) or types.is_large_list(column.type)
    if is_list and types.is_struct(column.type.value_type):
        return _conversations(column, faults, rows)

    cells = _values(column, faults, rows)
    if types.is_string(column.type) or types.is_large_string(column.type):
        is_json = compute.match_substring_regex(column, r"^\s*\[\s*\{").fill_null(False)
        for row in np.flatnonzero(is_json.to_numpy(zero_copy_only=False)):
            cells[row] = unpacked(cells[row])
    return cells


def _conversations(column: Any, faults: Utf8Faults, rows: NDArray[np.int64]) -> NDArray[np.object_]:
    from pyarrow import compute

    cells = np.full(len(column), None, dtype=object)
    lengths = compute.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    is_other = np.full(len(column), True)

    texts = _single_texts(compute.list_flatten(column))
    if texts is not None:
        is_plain, contents = texts
        single = np.flatnonzero(lengths == 1)
        # Where the only message of each of these is among all messages.
        places = (np.cumsum(lengths) - lengths)[single]
        single, places = single[is_plain[places]], places[is_plain[places]]
        cells[single] = _values(compute.take(contents, places), faults, rows[single])
        is_other[single] = False

    # Everything else is looked at message by message.
    others = np.flatnonzero(is_other)
    if len(others):
        cells[others] = _values(compute.take(column, others), faults, rows[others])
    return cells


def _single_texts(messages: Any) -> tuple[NDArray[np.bool_], Any] | None:
    """Returns which messages are nothing but a text of the user, and the contents of all."""
    from pyarrow import compute, types

    roles, contents = _field(messages, "role"), _field(messages, "content")
    if roles is None or contents is None:
        return None
    if not all(types.is_string(a.type) or types.is_large_string(a.type) for a in (roles, contents)):
        return None

    is_plain = compute.and_(compute.equal(roles, "user").fill_null(False), contents.is_valid())
    for field in messages.type:
        other = None if field.name in ("role", "content") else _field(messages, field.name)
        if other is not None:
            is_plain = compute.and_(is_plain, other.is_null())
    return is_plain.to_numpy(zero_copy_only=False), contents


def _values(array: Any, faults: Utf8Faults, rows: NDArray[np.int64]) -> NDArray[np.object_]:
    """Returns an Arrow array as Python values; NULL becomes None.

    Args:
        array: The array; or values in a list.
        faults: Counts what is not UTF-8.
        rows: Number of each row, from 1.
    """
    import pyarrow
    from pyarrow import compute, types

    if isinstance(array, list):
        return np.fromiter(array, dtype=object, count=len(array))
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if types.is_float16(array.type) or types.is_float32(array.type):
        # As Python's floats they would have more digits than they were written with.
        is_null = compute.is_null(array).to_numpy(zero_copy_only=False)
        found = array.to_numpy(zero_copy_only=False)
        return np.fromiter(
            (None if null else value for null, value in zip(is_null, found, strict=True)),
            dtype=object,
            count=len(array),
        )

    try:
        if types.is_string(array.type) or types.is_large_string(array.type):
            # Several times faster than a list.
            return array.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
        listed = array.to_pylist()
    except (UnicodeDecodeError, pyarrow.ArrowException):  # the latter from to_numpy
        listed = [_decoded(value, faults, row) for value, row in zip(array, rows, strict=True)]
    return np.fromiter(listed, dtype=object, count=len(array))


def _decoded(scalar: Any, faults: Utf8Faults, row: int) -> Any:
    """Returns a value that may hold a text that is not UTF-8; None if that is deep inside."""
    try:
        value = scalar.as_py()
        if isinstance(value, str):
            faults.note_sound(value, row)
        return value
    except UnicodeDecodeError:
        buffer = getattr(scalar, "as_buffer", lambda: None)()
        return faults.decode(b"" if buffer is None else buffer.to_pybytes(), row) or None
