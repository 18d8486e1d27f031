"""Problem files as a tuple of problems: read, cleaned, counted, mixed and kept apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.mixing import MixedOrder, check_weights
from rllib_dapo.envs.readers import final_answer, read_rows
from rllib_dapo.envs.schema import Columns, check_columns
from rllib_dapo.envs.sources import PathSetting, Source, find_sources
from rllib_dapo.envs.splits import DatasetOrder, text_key

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

MAX_PROMPT_CHARACTERS: Final = 1_000_000  # what a text environment's observation space has room for
_SHOWN = 60  # characters of a prompt in a message


# Compared by identity: nobody wants to wait for a comparison text by text.
@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dataset:
    """The problems of one or more files or data sets.

    Attributes:
        problems: The problems in the order of the sources, each prompt once.
        names: Names of the sources.
        origins: For each problem, the number of the source that it came from.
        duplicates: How many rows were left out because an earlier row has the same prompt.
        conflicts: How many of the duplicates have another answer than the one that was kept.
        incomplete: How many rows were left out because they have no prompt or no answer.
        too_long: How many rows were left out because their prompt is too long.
    """

    problems: tuple[Problem, ...]
    names: tuple[str, ...]
    origins: tuple[int, ...]
    duplicates: int
    conflicts: int
    incomplete: int
    too_long: int


def load_dataset(
    path: PathSetting,
    *,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    max_prompt_characters: int = MAX_PROMPT_CHARACTERS,
    need_answers: bool = True,
) -> Dataset:
    """Reads a file or a Hugging Face data set, or several as if they were one.

    What `columns` does not say is told from the names of each source's columns. Published files
    repeat themselves (DAPO-Math-17k holds each of its problems about a hundred times); every prompt
    is kept once. Prompts that are too long are left out, never cut. Whatever is left out is counted
    in the log. A file that this process has read, and that has not changed since, is not read
    again.

    Args:
        path: The setting `path`, see `sources.find_sources`.
        columns: The setting `columns`: which columns make up the prompt ("question") and the
            ground truth ("answer").
        max_prompt_characters: Most characters of a prompt; longer ones are left out.
        need_answers: Whether rows without an answer are left out; if not, their answer is empty.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a setting is refused, a source cannot be read, or no complete problem is in
            any of them.
    """
    return _load(find_sources(path), check_columns(columns), max_prompt_characters, need_answers)


def visiting_order(
    dataset: Dataset, problems: Sequence[Problem], *, weights: Any = None, seed: int
) -> Callable[[int], int]:
    """Returns the order in which a selection of a data set's problems is visited.

    The order is a function of the reset seed. Without weights each problem is visited once in an
    epoch. With weights each source has its own epochs, and takes its share of the seeds, evenly
    spread.

    Args:
        dataset: The data set that the problems are from.
        problems: Some of the data set's problems, in its order.
        weights: The setting `weights`: None, or a positive number for each of the sources.
        seed: Chooses among the orders.

    Raises:
        ValueError: If the weights are refused, or a source has none of the problems.
    """
    if weights is None:
        return DatasetOrder(size=len(problems), seed=seed)

    origin_of = dict(zip((p.problem_id for p in dataset.problems), dataset.origins, strict=True))
    sizes = [0] * len(dataset.names)
    for problem in problems:
        sizes[origin_of[problem.problem_id]] += 1

    return MixedOrder(sizes=tuple(sizes), weights=check_weights(weights, sizes), seed=seed)


def refuse_overlap(
    training: Iterable[Problem],
    heldout: Iterable[Problem],
    *,
    bare: Callable[[str], str] = str,
    settings: str,
) -> None:
    """Refuses held-out problems that are also trained on.

    Prompts are compared without regard to case and white space.

    Args:
        training: The problems that are trained on.
        heldout: The problems that must not be trained on.
        bare: Returns a prompt without what is wrapped around it.
        settings: The settings to change, for the message.

    Raises:
        ValueError: If a problem is in both; one line.
    """
    trained_on = {text_key(bare(problem.prompt)) for problem in training}
    problems = list(heldout)
    shared = [problem for problem in problems if text_key(bare(problem.prompt)) in trained_on]

    if shared:
        example = " ".join(bare(shared[0].prompt).split())[:_SHOWN]
        raise ValueError(
            f"{len(shared)} of {len(problems)} held-out problems are also trained on, such as "
            f"{shared[0].problem_id} ({example!r}): change {settings}"
        )


@lru_cache(maxsize=8)
def _load(
    sources: tuple[Source, ...], columns: Columns, longest: int, need_answers: bool
) -> Dataset:
    kept: dict[str, Problem] = {}
    origins: list[int] = []
    names = _distinct_stems(sources)
    duplicates = conflicts = incomplete = too_long = 0

    for origin, source in enumerate(sources):
        rows = read_rows(source, columns, need_answers=need_answers)
        for number, (texts, raw_answers, identity) in enumerate(rows):
            prompt, answer = _joined(texts), _joined([final_answer(value) for value in raw_answers])

            if not prompt or (need_answers and not answer):
                incomplete += 1
            elif len(prompt) > longest:
                too_long += 1
            elif prompt in kept:
                duplicates += 1
                conflicts += kept[prompt].answer != answer
            else:
                name = f"{names[origin]}/{number if identity is None else identity}"
                kept[prompt] = Problem(prompt=prompt, answer=answer, problem_id=name)
                origins.append(origin)

    where = ", ".join(str(source) for source in sources)
    if not kept:
        raise ValueError(
            f"path={where!r}: no problem in it ({incomplete} rows without prompt or answer, "
            f"{too_long} prompts of more than {longest} characters); "
            "there must be at least one row with both"
        )
    logger.info(
        "%s: %d problems; left out %d duplicates (%d of them with another answer), "
        "%d incomplete rows and %d prompts of more than %d characters",
        *(where, len(kept), duplicates, conflicts, incomplete, too_long, longest),
    )
    return Dataset(
        problems=tuple(kept.values()),
        names=tuple(names),
        origins=tuple(origins),
        duplicates=duplicates,
        conflicts=conflicts,
        incomplete=incomplete,
        too_long=too_long,
    )


def _joined(parts: Iterable[str | None]) -> str:
    """Joins the parts by a space; empty if one of them is missing."""
    stripped = [(part or "").strip() for part in parts]
    return " ".join(stripped) if all(stripped) else ""


def _distinct_stems(sources: Sequence[Source]) -> list[str]:
    """Returns the names of the sources, numbered if two have the same name."""
    stems = [source.stem for source in sources]
    return [f"{stem}.{i}" if stems.count(stem) > 1 else stem for i, stem in enumerate(stems)]
