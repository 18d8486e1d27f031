"""Every response of an evaluation, in Parquet files: one for each part of a data set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_dapo.core.types import PromptGroup
from rllib_dapo.evaluation.atomic_files import make_schema, make_table, write_table
from rllib_dapo.evaluation.questions import Question

if TYPE_CHECKING:
    import pandas

_SECONDS = b"seconds"  # metadata of a file: how long the part took

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


class ResponseParts:
    """The responses to one data set, part by part.

    A part is a fixed number of consecutive problems that are sampled together. Its file is complete
    or absent, so an interrupted evaluation continues with the parts whose files are missing.
    """

    def __init__(self, folder: Path, questions: Sequence[Question], *, part_size: int) -> None:
        """Divides the problems into parts; reads and writes nothing.

        Args:
            folder: Folder of the files.
            questions: All problems of the data set, in order.
            part_size: Number of problems in a part; the last part may have fewer.
        """
        self._folder = folder
        self._questions = {question.seed: question for question in questions}
        seeds = list(self._questions)
        self.requests = [seeds[i : i + part_size] for i in range(0, len(seeds), part_size)]
        self._number = {tuple(request): number for number, request in enumerate(self.requests)}

    def missing(self) -> list[list[int]]:
        """The seeds of each part whose file is missing."""
        return [request for request in self.requests if not self._path(request).is_file()]

    def write(self, groups: Sequence[PromptGroup], *, seconds: float) -> None:
        """Writes the file of a part.

        Args:
            groups: The responses to one of `requests`, in its order.
            seconds: How long the part took.
        """
        rows = [row for group in groups for row in _rows(group, self._questions[group.seed])]
        path = self._path([group.seed for group in groups])
        write_table(rows, path, _COLUMNS, {_SECONDS: repr(seconds).encode()})

    def seconds(self) -> float:
        """How long all completed parts took."""
        import pyarrow.parquet

        schemas = [pyarrow.parquet.read_schema(path) for path in self._completed()]
        return math.fsum(float(schema.metadata[_SECONDS]) for schema in schemas)

    def read(self) -> pandas.DataFrame:
        """All responses of completed parts, in the order of problems and samples."""
        import pyarrow
        import pyarrow.parquet

        schema = make_schema(_COLUMNS)
        tables = [pyarrow.parquet.read_table(path, schema=schema) for path in self._completed()]
        if not tables:
            return make_table([], _COLUMNS).to_pandas()
        return pyarrow.concat_tables(tables).to_pandas()

    def _completed(self) -> list[Path]:
        return [path for request in self.requests if (path := self._path(request)).is_file()]

    def _path(self, request: Sequence[int]) -> Path:
        return self._folder / f"part-{self._number[tuple(request)]:05}.parquet"


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
    """Replaces lone surrogates, which text from a JSON file may hold and Parquet refuses."""
    return text.encode("utf-8", "replace").decode("utf-8")
