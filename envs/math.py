"""Word problems with short answers, read from files."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from rllib_dapo.envs.base import Problem
from rllib_dapo.envs.datasets import (
    MAX_PROMPT_CHARACTERS,
    Dataset,
    load_dataset,
    refuse_overlap,
    visiting_order,
)
from rllib_dapo.envs.env_settings import check_choice, check_fraction, check_integer, check_template
from rllib_dapo.envs.messages import Conversation, plain_text
from rllib_dapo.envs.prompt_cells import with_last_text
from rllib_dapo.envs.row_counts import LIMITED, OTHER_SPLIT, UNJUDGED, DataReport, RowFinding
from rllib_dapo.envs.rule_scored import RuleScoredEnv
from rllib_dapo.envs.splits import SPLITS, split_of, text_key
from rllib_dapo.envs.verify import ANSWER_RULES, ideal_response

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

# The wording of DAPO-Math-17k, word for word: a model trained on it has to be asked in the same
# way.
_BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of "
    "the form Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
_AFTER = '\n\nRemember to put your answer on its own line after "Answer:".'
DAPO_TEMPLATE = f"{_BEFORE}{{problem}}{_AFTER}"
_MARK = "of the form Answer:"


class MathEnv(RuleScoredEnv):
    """Asks the problems of a file, each of them once in an epoch.

    Reset seeds 0 .. N-1 are the first epoch over the N problems, N .. 2N-1 the second, in another
    order.

    Settings, with their defaults:
        path: A Parquet, JSON, JSON-lines or CSV file, a pattern or a folder of such files, a
            Hugging Face data set, or a list of these; has no default. See `sources.find_sources`.
        columns: None; {"question": ..., "answer": ..., "system": ...} names the file's columns if
            they cannot be told from their names.
        weights: None; if set, a number for each entry of `path`: its share of the problems.
        max_prompt_characters: 1,000,000; longer prompts are left out and counted.
        disjoint_from: None; files like `path` that must not share a problem with it.
        answer_rule: "strict", "boxed", "numeric", "last_number", "exact_integer", "math_verify",
            which knows that (x+1)^2 is x^2+2x+1 and runs in a process, or "dapo_recipe", which
            gives the verdicts of the public recipe's checker. See `verify`.
        tolerance: 0.0; how far a decimal may be from the truth under "numeric", as a share of the
            truth.
        template: The recipe's wording; a prompt with the field {problem}.
        split: "all", or "train" or "heldout".
        heldout_fraction: 0.1; share of problems that is held out, decided by a hash of their text.
        seed: 0; chooses the order of the problems. Splits do not depend on it.
        limit: None; if set, only this many problems of the split are used, the first ones.

    A prompt may be a conversation with a system message and earlier turns: the template goes around
    the user's last message. Problems whose own ground truth the answer rule would not accept are
    left out. `data_report` says what was taken, left out and changed, with counts. Which problems
    are held out is decided by a hash of their text, without case and white space, so that a
    near-copy cannot be on both sides.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a setting is refused, a file cannot be read, or no problem is left.
    """

    default_settings: ClassVar[Mapping[str, Any]] = {
        "path": None,
        "columns": None,
        "weights": None,
        "max_prompt_characters": MAX_PROMPT_CHARACTERS,
        "disjoint_from": None,
        "answer_rule": "strict",
        "tolerance": 0.0,
        "template": DAPO_TEMPLATE,
        "split": "all",
        "heldout_fraction": 0.1,
        "seed": 0,
        "limit": None,
    }

    # Of the class: nothing has been read.
    data_report: DataReport = DataReport(sources=(), problems=0)

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        given = self.settings

        split = check_choice("split", given["split"], ("all", *SPLITS))
        heldout_fraction = check_fraction("heldout_fraction", given["heldout_fraction"])
        seed = check_integer("seed", given["seed"], low=0)
        limit = None if given["limit"] is None else check_integer("limit", given["limit"], low=1)
        self._template = check_template("template", given["template"], "problem")
        longest = check_integer(
            "max_prompt_characters",
            given["max_prompt_characters"],
            low=1,
            high=MAX_PROMPT_CHARACTERS,
        )

        dataset = load_dataset(
            given["path"],
            columns=given["columns"],
            max_prompt_characters=longest,
            # A rule reads the answer alone; a subclass may score by anything.
            keep_columns=type(self).score is not MathEnv.score,
        )
        selected, left_out = select_problems(dataset, self.rule, split, heldout_fraction)
        self.problems = selected[:limit]
        over = len(selected) - len(self.problems)
        limited = RowFinding(what="left out", reason=LIMITED, rows=over)
        self.data_report = dataset.report.used(len(self.problems), (*left_out, limited))
        self._order = visiting_order(dataset, self.problems, weights=given["weights"], seed=seed)

        if given["disjoint_from"] is not None:
            others = load_dataset(
                given["disjoint_from"], columns=given["columns"], max_prompt_characters=longest
            )
            refuse_overlap(
                self.problems, others.problems, bare=unwrap, settings="path or disjoint_from"
            )

    def problem(self, seed: int) -> Problem:
        """Returns the problem at position `seed` of the endless visit to the data set."""
        found = self.problems[self._order(seed)]
        prompt = fill_template(self._template, found.prompt)
        return replace(found, prompt=prompt)


# A runner holds many copies of an environment: they share one tuple.
@lru_cache(maxsize=8)
def select_problems(
    dataset: Dataset, rule: str, split: str, heldout_fraction: float
) -> tuple[tuple[Problem, ...], tuple[RowFinding, ...]]:
    """Returns the problems of a split that can be solved under an answer rule.

    Returns:
        The problems, and what was left out.

    Raises:
        ValueError: If there are none.
    """
    solvable: list[Problem] = []
    unsolvable: list[Problem] = []
    for problem in dataset.problems:
        verdict = ANSWER_RULES[rule](ideal_response(rule, problem.answer), problem.answer)
        (solvable if verdict.is_correct else unsolvable).append(problem)
    if unsolvable:
        message = "left out %d of %d problems: answer_rule=%r cannot accept their ground truth"
        logger.warning(message, len(unsolvable), len(dataset.problems), rule)

    # The wording around a problem is not part of it, nor are case and white space: all copies of a
    # problem are in one split.
    selected = tuple(
        p
        for p in solvable
        if split in ("all", split_of(text_key(plain_text(unwrap(p.prompt))), heldout_fraction))
    )
    if not selected:
        raise ValueError(
            f"split={split!r}: no problem is left of {len(dataset.problems)} with "
            f"heldout_fraction={heldout_fraction} and answer_rule={rule!r} ({len(unsolvable)} "
            "cannot be judged by it); change one of the three or use more data"
        )

    first = unsolvable[0] if unsolvable else None
    unjudged = RowFinding(
        what="left out",
        reason=f"{UNJUDGED} ({rule})",
        rows=len(unsolvable),
        example="" if first is None else f"{first.problem_id}: {first.answer}"[:100],
    )
    other = RowFinding(what="left out", reason=OTHER_SPLIT, rows=len(solvable) - len(selected))
    return selected, (unjudged, other)


def fill_template(template: str, prompt: str | Conversation) -> str | Conversation:
    """Puts a prompt into a template, in place of the recipe's wording if the prompt has that.

    Of a conversation, the user's last message is what goes into the template. A prompt that asks
    for an answer line in words of its own, in whichever message, stays as it is.
    """
    bare = unwrap(prompt)
    if _MARK in plain_text(bare):
        return bare
    return with_last_text(bare, lambda text: template.format(problem=text))


def unwrap(prompt: str | Conversation) -> str | Conversation:
    """Takes the recipe's wording off a prompt, or off the user's last message, if it is there."""
    return with_last_text(prompt, lambda text: text.removeprefix(_BEFORE).removesuffix(_AFTER))
