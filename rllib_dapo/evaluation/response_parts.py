"""Every response of an evaluation: each in a journal as soon as it ends, then in Parquet files.

A data set is sampled in parts, a fixed number of consecutive problems each. A part's responses are
added to its journal one by one; once all are there they become its file, and the journal goes. So
an interruption loses only responses that were not finished.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_dapo.core.types import PromptGroup, Response
from rllib_dapo.evaluation.atomic_files import make_schema, make_table, write_table, write_text

if TYPE_CHECKING:
    import pandas

    from rllib_dapo.evaluation.questions import Question

Row = dict[str, Any]

_SECONDS = b"seconds"  # metadata of a file: how long the part took
_SECONDS_SO_FAR = "seconds_so_far"  # the same in a line of a journal

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
    """The responses to one data set."""

    def __init__(
        self, folder: Path, questions: Sequence[Question], *, part_size: int, num_samples: int
    ) -> None:
        """Divides the problems into parts, and reads what an interruption has left of them.

        Args:
            folder: Folder of the files.
            questions: All problems of the data set, in order.
            part_size: Number of problems in a part; the last part may have fewer.
            num_samples: Number of responses to each problem.
        """
        self._folder = folder
        self._num_samples = num_samples
        self._questions = {question.seed: question for question in questions}
        seeds = list(self._questions)
        self.requests = [seeds[i : i + part_size] for i in range(0, len(seeds), part_size)]
        self._part_of = {seed: n for n, request in enumerate(self.requests) for seed in request}

        # Of each part without a file: its rows by seed and sample, and its seconds so far.
        self._rows: dict[int, dict[tuple[int, int], Row]] = {}
        self._seconds: dict[int, float] = {}
        for number in range(len(self.requests)):
            if not self._path(number).is_file():
                self._rows[number], self._seconds[number] = self._read_journal(number)
        self._kept = {
            seed: frozenset(s for known, s in self._rows[self._part_of[seed]] if known == seed)
            for seed in seeds
            if self._part_of[seed] in self._rows
        }

    def missing(self) -> list[list[int]]:
        """The seeds of each part that is not complete."""
        return [self.requests[number] for number in sorted(self._rows)]

    def kept(self) -> Mapping[int, frozenset[int]]:
        """By seed, the samples of parts that are not complete which were there from the start."""
        return self._kept

    @property
    def num_responses(self) -> int:
        """Number of responses to all problems together."""
        return len(self._questions) * self._num_samples

    @property
    def num_done(self) -> int:
        """Number of responses that need not be sampled any more."""
        complete = set(self._part_of.values()) - self._rows.keys()
        problems = sum(len(self.requests[number]) for number in complete)
        return problems * self._num_samples + sum(map(len, self._rows.values()))

    def add(self, response: Row, *, seconds: float) -> bool:
        """Keeps one response.

        Args:
            response: From `response_row`.
            seconds: How long it took, beyond what was told with earlier ones.

        Returns:
            Whether it is new.
        """
        number, key = self._part_of[response["seed"]], (response["seed"], response["sample"])
        if number not in self._rows or key in self._rows[number]:
            return False

        question = self._questions[response["seed"]]
        row = {
            "problem_id": _storable(question.problem_id),
            "prompt": _storable(question.prompt),
            "answer": _storable(question.answer),
            **response,
        }
        self._rows[number][key] = row
        self._seconds[number] += seconds

        journal = self._journal(number)
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**row, _SECONDS_SO_FAR: self._seconds[number]}) + "\n")
        return True

    def complete(self, groups: Sequence[PromptGroup], *, seconds: float) -> list[Row]:
        """Writes the file of a part.

        Args:
            groups: The responses to one of `missing()`, in its order, without those in `kept()`. A
                group without any is that of a prompt which is too long.
            seconds: How long the part took, beyond what was told with its responses.

        Returns:
            The responses that had not been added before.
        """
        number = self._part_of[groups[0].seed]
        new = [row for group in groups for row in self._rows_of(group) if self.add(row, seconds=0)]

        places = {seed: place for place, seed in enumerate(self.requests[number])}
        rows = sorted(
            self._rows.pop(number).values(), key=lambda row: (places[row["seed"]], row["sample"])
        )
        taken = self._seconds.pop(number) + seconds
        write_table(rows, self._path(number), _COLUMNS, {_SECONDS: repr(taken).encode()})
        self._journal(number).unlink(missing_ok=True)
        return new

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

    def _rows_of(self, group: PromptGroup) -> list[Row]:
        kept = self._kept[group.seed]
        samples = [sample for sample in range(self._num_samples) if sample not in kept]
        return [
            response_row(group.seed, sample, len(group.prompt_ids), response)
            for sample, response in zip(samples, group.responses, strict=bool(group.responses))
        ]

    def _completed(self) -> list[Path]:
        paths = map(self._path, range(len(self.requests)))
        return [path for path in paths if path.is_file()]

    def _read_journal(self, number: int) -> tuple[dict[tuple[int, int], Row], float]:
        """What is in a journal; a line that was cut short is dropped from it."""
        journal = self._journal(number)
        if not journal.is_file():
            return {}, 0.0

        text = journal.read_text(encoding="utf-8", errors="replace")
        whole, _, cut_short = text.rpartition("\n")
        if cut_short:
            write_text(whole + "\n" if whole else "", journal)

        rows = [json.loads(line) for line in whole.splitlines()]
        seconds = [row.pop(_SECONDS_SO_FAR) for row in rows]
        return {(row["seed"], row["sample"]): row for row in rows}, seconds[-1] if seconds else 0.0

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:05}.parquet"

    def _journal(self, number: int) -> Path:
        return self._folder / f"part-{number:05}.unfinished.jsonl"


def response_row(seed: int, sample: int, prompt_tokens: int, response: Response) -> Row:
    """A response as plain values.

    Args:
        seed: Reset seed of the problem.
        sample: Place of the response among those to the problem.
        prompt_tokens: Number of tokens of the prompt.
        response: The response.
    """
    return {
        "seed": seed,
        "sample": sample,
        "response": _storable(response.text),
        "prediction": _storable(response.prediction),
        "reward": None if response.is_missing else float(response.reward),
        "is_correct": None if response.is_correct is None else bool(response.is_correct),
        "missing_reason": _storable(response.reason) if response.is_missing else None,
        "prompt_tokens": prompt_tokens,
        "tokens": len(response.token_ids),
        "finish_reason": response.finish_reason,
        "turns": response.num_turns,
    }


def _storable(text: str) -> str:
    """Replaces lone surrogates, which text from a JSON file may hold and Parquet refuses."""
    return text.encode("utf-8", "replace").decode("utf-8")
