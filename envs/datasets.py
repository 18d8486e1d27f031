"""Problem files as a tuple of problems: read, cleaned, counted, mixed and kept apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.messages import Conversation, plain_text
from rllib_dapo.envs.mixing import MixedOrder, check_weights
from rllib_dapo.envs.problem_reader import ProblemReader
from rllib_dapo.envs.row_counts import CONFLICT, DUPLICATE, TOO_LONG, DataReport
from rllib_dapo.envs.schema import Columns, check_columns
from rllib_dapo.envs.sources import Entry, PathSetting, find_sources
from rllib_dapo.envs.splits import DatasetOrder, text_key

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

MAX_PROMPT_CHARACTERS: Final = 1_000_000  # what a text environment's observation space has room for
_SHOWN = 60  # characters of a prompt in a message
_REPEATED = (DUPLICATE, CONFLICT)


# Compared by identity: nobody wants to wait for a comparison text by text.
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dataset:
    """The problems of one or more files or data sets.

    Attributes:
        problems: The problems in the order of the sources, each prompt once.
        origins: For each problem, the number of the entry of `path` that it came from.
        num_entries: Number of the entries of `path`.
        report: What became of the rows of each source.
    """

    problems: tuple[Problem, ...]
    origins: tuple[int, ...]
    num_entries: int
    report: DataReport

    @property
    def duplicates(self) -> int:
        """How many rows were left out because an earlier row has the same prompt."""
        return self._left_out(lambda reason: reason in _REPEATED)

    @property
    def conflicts(self) -> int:
        """How many of the duplicates have another answer than the one that was kept."""
        return self._left_out(lambda reason: reason == CONFLICT)

    @property
    def too_long(self) -> int:
        """How many rows were left out because their prompt is too long."""
        return self._left_out(lambda reason: reason == TOO_LONG)

    @property
    def incomplete(self) -> int:
        """How many rows were left out because they have no prompt or no answer of use."""
        return self._left_out(lambda reason: reason not in (*_REPEATED, TOO_LONG))

    def _left_out(self, counts: Callable[[str], bool]) -> int:
        return sum(
            finding.rows
            for source in self.report.sources
            for finding in source.findings
            if finding.what == "left out" and counts(finding.reason)
        )


def load_dataset(
    path: PathSetting,
    *,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    max_prompt_characters: int = MAX_PROMPT_CHARACTERS,
    need_answers: bool = True,
    answers_as_data: bool = False,
    keep_columns: bool = False,
    say: Callable[[str], None] | None = None,
) -> Dataset:
    """Reads a file or a Hugging Face data set, or several as if they were one.

    What `columns` does not say is told from the names of each source's columns. Published files
    repeat themselves (DAPO-Math-17k holds each of its problems about a hundred times); every prompt
    is kept once. Prompts that are too long are left out, never cut. Whatever is left out or changed
    is counted in the data set's report. A file that this process has read, and that has not changed
    since, is not read again.

    Args:
        path: The setting `path`, see `sources.find_sources`.
        columns: The setting `columns`: which columns make up the prompt ("question") and the
            ground truth ("answer"), and which holds a system message ("system").
        max_prompt_characters: Most characters of a prompt; longer ones are left out.
        need_answers: Whether rows without an answer are left out; if not, their answer is empty.
        answers_as_data: Whether answers are data for a function, and lists and mappings become
            JSON; if not, they are what a response is compared with.
        keep_columns: Whether each problem carries all columns of its row. They may take much more
            memory than prompts and answers.
        say: Receives lines about progress where reading takes long. What is read with it is not
            kept for the next call.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a setting is refused, a source cannot be read, or no complete problem is in
            any of them.
    """
    arguments = (
        *(find_sources(path), check_columns(columns), max_prompt_characters),
        *(need_answers, answers_as_data, keep_columns),
    )
    if say is not None:
        return _read(*arguments, say)
    return _load(*arguments)


def visiting_order(
    dataset: Dataset, problems: Sequence[Problem], *, weights: Any = None, seed: int
) -> Callable[[int], int]:
    """Returns the order in which a selection of a data set's problems is visited.

    The order is a function of the reset seed. Without weights each problem is visited once in an
    epoch. With weights each entry of `path` has its own epochs, and takes its share of the seeds,
    evenly spread.

    Args:
        dataset: The data set that the problems are from.
        problems: Some of the data set's problems, in its order.
        weights: The setting `weights`: None, or a positive number for each entry of `path`.
        seed: Chooses among the orders.

    Raises:
        ValueError: If the weights are refused, or an entry has none of the problems.
    """
    if weights is None:
        return DatasetOrder(size=len(problems), seed=seed)

    origin_of = dict(zip((p.problem_id for p in dataset.problems), dataset.origins, strict=True))
    sizes = [0] * dataset.num_entries
    for problem in problems:
        sizes[origin_of[problem.problem_id]] += 1

    return MixedOrder(sizes=tuple(sizes), weights=check_weights(weights, sizes), seed=seed)


def refuse_overlap(
    training: Iterable[Problem],
    heldout: Iterable[Problem],
    *,
    bare: Callable[[str | Conversation], str | Conversation] = lambda prompt: prompt,
    settings: str,
) -> None:
    """Refuses held-out problems that are also trained on.

    Prompts are compared without regard to case and white space; of a conversation, all messages.

    Args:
        training: The problems that are trained on.
        heldout: The problems that must not be trained on.
        bare: Returns a prompt without what is wrapped around it.
        settings: The settings to change, for the message.

    Raises:
        ValueError: If a problem is in both; one line.
    """
    trained_on = {text_key(plain_text(bare(problem.prompt))) for problem in training}
    problems = list(heldout)
    shared = [
        problem for problem in problems if text_key(plain_text(bare(problem.prompt))) in trained_on
    ]

    if shared:
        example = " ".join(plain_text(bare(shared[0].prompt)).split())[:_SHOWN]
        raise ValueError(
            f"{len(shared)} of {len(problems)} held-out problems are also trained on, such as "
            f"{shared[0].problem_id} ({example!r}): change {settings}"
        )


@lru_cache(maxsize=8)
def _load(
    entries: tuple[Entry, ...],
    columns: Columns,
    longest: int,
    need_answers: bool,
    answers_as_data: bool,
    keep_columns: bool,
) -> Dataset:
    return _read(
        entries,
        columns,
        longest,
        need_answers,
        answers_as_data,
        keep_columns,
        lambda line: None,
    )


def _read(
    entries: tuple[Entry, ...],
    columns: Columns,
    longest: int,
    need_answers: bool,
    answers_as_data: bool,
    keep_columns: bool,
    say: Callable[[str], None],
) -> Dataset:
    reader = ProblemReader(
        columns=columns,
        longest=longest,
        need_answers=need_answers,
        answers_as_data=answers_as_data,
        keep_columns=keep_columns,
        say=say,
    )
    stems = iter(_distinct_stems([source.stem for entry in entries for source in entry]))
    origins: list[int] = []
    reports = []
    for number, entry in enumerate(entries):
        for source in entry:
            reports.append(reader.read(source, next(stems)))
            origins += [number] * (reader.num_problems - len(origins))

    report = DataReport(sources=tuple(reports), problems=len(origins))
    dataset = Dataset(
        problems=tuple(reader.problems),
        origins=tuple(origins),
        num_entries=len(entries),
        report=report,
    )
    if not origins:
        raise ValueError(_nothing_left(dataset, longest))
    logger.info(
        "%s: %d problems; left out %d duplicates (%d of them with another answer), "
        "%d incomplete rows and %d prompts of more than %d characters",
        ", ".join(one.source for one in reports[:4]) + (", ..." if len(reports) > 4 else ""),
        *(len(origins), dataset.duplicates, dataset.conflicts, dataset.incomplete),
        *(dataset.too_long, longest),
    )
    for one in reports:
        if any(finding.what == "changed" for finding in one.findings):
            logger.info("%s", one.line())
    return dataset


def _nothing_left(dataset: Dataset, longest: int) -> str:
    sources = dataset.report.sources
    where = ", ".join(source.source for source in sources)
    told = [str(finding) for source in sources for finding in source.findings]
    reasons = f" ({'; '.join(told[:5])})" if told else ""
    return (
        f"path={where!r}: no problem in it ({dataset.incomplete} rows without prompt or answer, "
        f"{dataset.too_long} prompts of more than {longest} characters); "
        f"there must be at least one row with both{reasons}"
    )


def _distinct_stems(stems: Sequence[str]) -> list[str]:
    """Returns the names of the sources, numbered if two have the same name."""
    return [f"{stem}.{i}" if stems.count(stem) > 1 else stem for i, stem in enumerate(stems)]
