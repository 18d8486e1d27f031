"""Reading problems: JSON, CSV, Parquet and Hugging Face data sets, row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

from rllib_dapo.envs.arrow_rows import RawRow, arrow_rows, sample_rows
from rllib_dapo.envs.json_rows import Row, dig, read_json_rows
from rllib_dapo.envs.prompt_cells import unpacked
from rllib_dapo.envs.schema import Columns, Schema, candidate_columns, detect_schema, find_schema
from rllib_dapo.envs.sources import KINDS, FileSource, HubSource, Source
from rllib_dapo.envs.text_files import Utf8Faults, open_text

_BATCH_ROWS: Final = 65_536
_BATCH_BYTES: Final = 2**29  # of unpacked Parquet: what a batch may take, going by the average row
_CSV_BLOCK_BYTES: Final = 16_777_216  # no row of a CSV file may be longer
# JSON names its fields in every row anew, and may leave some out: so many rows are looked at
# before it is decided what the fields are, and up to so many until that is known.
_FIRST_LOOK: Final = 1_000
_LAST_LOOK: Final = 100_000
_DELIMITERS: Final = (",", ";", "\t", "|")


@dataclass(kw_only=True, slots=True)
class SourceRows:
    """The rows of a file or data set, and what reading them has shown.

    Attributes:
        source: One of what `find_sources` returned.
        columns: What `check_columns` returned.
        need_answers: Whether a file without answers is refused; if not, its rows have no answers.
        keep_columns: Whether all columns are read, and not only those that the schema names.
        faults: Counts rows that are not UTF-8.
        schema: Which column holds what; None before the first row.
    """

    source: Source
    columns: Columns
    need_answers: bool
    keep_columns: bool = False
    faults: Utf8Faults = field(init=False)
    schema: Schema | None = None

    def __post_init__(self) -> None:
        """Nothing has been read yet."""
        self.faults = Utf8Faults(self.where)

    @property
    def where(self) -> str:
        """The source, for messages."""
        is_hub = isinstance(self.source, HubSource)
        named = {"dataset": self.source.dataset} if is_hub else str(self.source.path)  # type: ignore[union-attr]
        return f"path={named!r}"

    def __iter__(self) -> Iterator[RawRow]:
        """Yields the rows.

        Raises:
            ValueError: If the source's kind, its columns or one of its lines cannot be read.
        """
        if isinstance(self.source, HubSource):
            yield from self._hub(self.source)
        else:
            readers = {
                ".parquet": self._parquet,
                ".jsonl": self._json,
                ".ndjson": self._json,
                ".json": self._json,
                ".csv": self._csv,
                ".tsv": self._csv,
            }
            reader = readers.get(self.source.suffix)
            if reader is None:
                raise ValueError(f"{self.where}: cannot tell what kind of file it is; {KINDS}")
            yield from reader(self.source)
        self.faults.refuse_other_encoding()

    def _find_schema(self, names: Iterable[str], sample: Iterable[Mapping[str, Any]]) -> Schema:
        self.schema = find_schema(
            self.where, names, self.columns, need_answers=self.need_answers, sample=list(sample)
        )
        return self.schema

    def _json(self, source: FileSource) -> Iterator[RawRow]:
        rows = read_json_rows(source.path, self.where, self.faults)
        looked_at = list(islice(rows, _FIRST_LOOK))
        if not looked_at:
            return

        schema = self._json_schema(looked_at, rows)
        known = {name for row in looked_at for name in row}
        for number, row in enumerate(chain(looked_at, rows), start=1):
            if not row.keys() <= known:
                known |= row.keys()
                self._check_late_fields(schema, known, number)
            yield _json_row(row, schema)

    def _json_schema(self, looked_at: list[Row], rows: Iterator[Row]) -> Schema:
        """Finds the schema; reads on where the fields that are needed have not come up yet."""
        while True:
            names = list(dict.fromkeys(name for row in looked_at for name in row))
            try:
                return self._find_schema(names, looked_at)
            except ValueError:
                more = list(islice(rows, len(looked_at)))
                if not more or len(looked_at) > _LAST_LOOK:
                    raise
                looked_at += more

    def _check_late_fields(self, schema: Schema, known: set[str], number: int) -> None:
        """Refuses a system message that comes up late: until then it was left out."""
        system = find_schema(self.where, known, self.columns, need_answers=False).system
        if system != schema.system:
            raise ValueError(
                f"{self.where}: row {number} is the first with the field {system!r}: say with "
                f"columns={{'system': {system!r}}} that it is the system message, or rename it"
            )

    def _csv(self, source: FileSource) -> Iterator[RawRow]:
        import pyarrow
        from pyarrow import csv as arrow_csv

        reading = {
            "read_options": arrow_csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
            "parse_options": arrow_csv.ParseOptions(
                newlines_in_values=True, delimiter=self._delimiter(source)
            ),
        }
        try:
            with (
                open_text(source.path, self.where) as file,
                arrow_csv.open_csv(
                    file, convert_options=arrow_csv.ConvertOptions(check_utf8=False), **reading
                ) as header,
            ):
                names = header.schema.names

            # As texts: read as numbers, 007 and 1.50 would be other answers.
            as_text = arrow_csv.ConvertOptions(
                column_types={name: pyarrow.string() for name in names}, check_utf8=False
            )
            with (
                open_text(source.path, self.where) as file,
                arrow_csv.open_csv(file, convert_options=as_text, **reading) as batches,
            ):
                yield from self._arrow(names, iter(batches))
        except (pyarrow.ArrowInvalid, UnicodeDecodeError) as error:
            raise ValueError(
                f"{self.where}: not a readable CSV file ({_first_line(error)}); "
                "its first line must name the columns, and texts with commas or line breaks "
                "must stand in quotes"
            ) from None

    def _delimiter(self, source: FileSource) -> str:
        """Returns what stands between the columns' names, going by the first line."""
        with open_text(source.path, self.where) as file:
            header = file.readline(_CSV_BLOCK_BYTES).decode(errors="replace").rstrip("\r\n")
        if source.suffix == ".tsv":
            return "\t"

        names = {mark: next(csv.reader([header], delimiter=mark), []) for mark in _DELIMITERS}
        known = [mark for mark in _DELIMITERS if detect_schema(names[mark])]
        return known[0] if known else max(_DELIMITERS, key=lambda mark: len(names[mark]))

    def _parquet(self, source: FileSource) -> Iterator[RawRow]:
        # pyarrow takes a third of a second to import, which only those who read Parquet need to
        # pay.
        import pyarrow
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(source.path) as file:
                names = file.schema_arrow.names
                looked_at = candidate_columns(names, self.columns)
                first = file.iter_batches(batch_size=_FIRST_LOOK, columns=looked_at)
                sample = sample_rows(next(first), looked_at) if file.metadata.num_rows else []
                schema = self._find_schema(names, sample)

                # Of a nested column, all of its top column is read.
                tops = (name if name in names else name.partition(".")[0] for name in schema.names)
                wanted = None if self.keep_columns else list(dict.fromkeys(tops))
                batches = file.iter_batches(batch_size=_batch_rows(file), columns=wanted)
                yield from arrow_rows(batches, schema, self.faults)
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(
                f"{self.where}: not a readable Parquet file ({_first_line(error)}); "
                "write or fetch it again"
            ) from None

    def _hub(self, source: HubSource) -> Iterator[RawRow]:
        data = _load_hub(source, self.where)
        tables = data.with_format("arrow").iter(batch_size=_BATCH_ROWS)
        batches = (batch for table in tables for batch in table.to_batches())
        yield from self._arrow(data.column_names, batches)

    def _arrow(self, names: list[str], batches: Iterator[Any]) -> Iterator[RawRow]:
        first = next(batches, None)
        looked_at = candidate_columns(names, self.columns)
        sample = [] if first is None else sample_rows(first.slice(0, _FIRST_LOOK), looked_at)
        schema = self._find_schema(names, sample)
        if first is not None:
            yield from arrow_rows(chain([first], batches), schema, self.faults)


def _json_row(row: Row, schema: Schema) -> RawRow:
    cells = (dig(row, name) for name in schema.prompt)
    return (
        tuple(unpacked(cell) if isinstance(cell, str) else cell for cell in cells),
        tuple(dig(row, name) for name in schema.answer),
        dig(row, schema.system) if schema.system else None,
        dig(row, schema.identity) if schema.identity else None,
        lambda: row,
    )


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _batch_rows(file: Any) -> int:
    """Returns how many rows of a Parquet file are held at a time."""
    rows = file.metadata.num_rows
    groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
    row_bytes = sum(group.total_byte_size for group in groups) / max(rows, 1)
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(row_bytes, 1))))


def _load_hub(source: HubSource, where: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise ValueError(f"{where}: needs the library datasets; pip install datasets") from None

    folder = Path(source.dataset).expanduser()
    # Hub, network, folder and the data set's own files may raise anything: the message is one line
    # that names the setting. Code that comes with a data set is never run: the library asks for
    # `trust_remote_code` before it does, or knows no such code any more.
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
            f"{where}: split {source.split!r} cannot be loaded: "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error
