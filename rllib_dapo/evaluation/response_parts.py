"""Every response of an evaluation in Parquet files: one for each part, which is there whole or not at all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_dapo.core.types import PromptGroup

if TYPE_CHECKING:
    import pandas
    import pyarrow

_SECONDS = b"seconds"
_COLUMNS = {
    "problem_id": "string",
    "seed": "int64",
    "sample": "int32",
    "prompt": "string",
    "answer": "string",
    "response": "string",
    "prediction": "string",
    "reward": "float64",
    "is_correct": "bool",
    "missing_reason": "string",
    "prompt_tokens": "int32",
    "tokens": "int32",
    "finish_reason": "string",
    "turns": "int32",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A problem as it is asked.

    Attributes:
        seed: The environment's reset seed.
        problem_id: The environment's name for it, or the seed.
        prompt: The observation.
        answer: The ground truth, where the environment tells it.
    """

    seed: int
    problem_id: str
    prompt: str
    answer: str


class Parts:
    """The files of one data set. A part is so many problems, sampled together; its number says which."""

    def __init__(self, folder: Path, questions: Sequence[Question], *, part_size: int) -> None:
        """Names the parts; nothing is read or written.

        Args:
            folder: Theirs.
            questions: All of the data set.
            part_size: Problems of a part; the last has what is left.
        """
        self._folder = folder
        self._questions = {question.seed: question for question in questions}
        seeds = list(self._questions)
        self.requests = [seeds[i : i + part_size] for i in range(0, len(seeds), part_size)]
        self._number = {tuple(request): number for number, request in enumerate(self.requests)}

    def missing(self) -> list[list[int]]:
        """The seeds of each part that is not there yet."""
        return [request for request in self.requests if not self._path(request).is_file()]

    def write(self, groups: Sequence[PromptGroup], *, seconds: float) -> None:
        """Keeps a part.

        Args:
            groups: Of one of `requests`, in its order.
            seconds: How long it took.
        """
        rows = [row for group in groups for row in _rows(group, self._questions[group.seed])]
        write_table(
            rows,
            self._path([group.seed for group in groups]),
            _COLUMNS,
            {_SECONDS: repr(seconds).encode()},
        )

    def seconds(self) -> float:
        """How long all parts that are there took."""
        import pyarrow.parquet

        schemas = [pyarrow.parquet.read_schema(path) for path in self._present()]
        return math.fsum(float(schema.metadata[_SECONDS]) for schema in schemas)

    def read(self) -> pandas.DataFrame:
        """All responses that are there, in the order of problems and samples."""
        import pyarrow
        import pyarrow.parquet

        tables = [
            pyarrow.parquet.read_table(path, schema=_schema(_COLUMNS)) for path in self._present()
        ]
        return (
            pyarrow.concat_tables(tables).to_pandas()
            if tables
            else _table([], _COLUMNS).to_pandas()
        )

    def _present(self) -> list[Path]:
        return [path for request in self.requests if (path := self._path(request)).is_file()]

    def _path(self, request: Sequence[int]) -> Path:
        return self._folder / f"part-{self._number[tuple(request)]:05}.parquet"


def write_table(
    rows: Sequence[dict[str, object]],
    path: Path,
    columns: dict[str, str],
    metadata: dict[bytes, bytes] | None = None,
) -> None:
    """Writes a Parquet file, whole or not at all.

    Args:
        rows: By column.
        path: Of the file; its folder is made.
        columns: Names and Arrow's names of types.
        metadata: Kept in the file.
    """
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    pyarrow.parquet.write_table(_table(rows, columns).replace_schema_metadata(metadata), unfinished)
    os.replace(unfinished, path)


def write_text(text: str, path: Path) -> None:
    """Writes a text file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def _rows(group: PromptGroup, question: Question) -> Iterator[dict[str, object]]:
    for sample, response in enumerate(group.responses):
        yield {
            "problem_id": _storable(question.problem_id),
            "seed": group.seed,
            "sample": sample,
            "prompt": _storable(group.prompt),
            "answer": _storable(question.answer),
            "response": _storable(response.text),
            "prediction": _storable(response.prediction),
            "reward": None if response.is_missing else response.reward,
            "is_correct": response.is_correct,
            "missing_reason": _storable(response.reason) if response.is_missing else None,
            "prompt_tokens": len(group.prompt_ids),
            "tokens": len(response.token_ids),
            "finish_reason": response.finish_reason,
            "turns": response.num_turns,
        }


def _storable(text: str) -> str:
    """Text from a JSON file may hold lone surrogates, which Parquet refuses."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _table(rows: Sequence[dict[str, object]], columns: dict[str, str]) -> pyarrow.Table:
    import pyarrow

    return pyarrow.Table.from_pylist(list(rows), schema=_schema(columns))


def _schema(columns: dict[str, str]) -> pyarrow.Schema:
    import pyarrow

    return pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in columns.items()])
