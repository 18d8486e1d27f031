"""A function of prompt and response as an environment, over a file of prompts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

from rllib_dapo.envs.adapters.reward_sources import make_reward
from rllib_dapo.envs.base import Problem, SingleStepTextEnv, Verdict
from rllib_dapo.envs.code.code_reward import fault_of_tests
from rllib_dapo.envs.datasets import (
    MAX_PROMPT_CHARACTERS,
    Dataset,
    load_dataset,
    refuse_overlap,
    visiting_order,
)
from rllib_dapo.envs.env_settings import check_choice, check_fraction, check_integer, check_template
from rllib_dapo.envs.prompt_cells import with_last_text
from rllib_dapo.envs.row_counts import LIMITED, NO_TESTS, OTHER_SPLIT, DataReport, RowFinding
from rllib_dapo.envs.splits import SPLITS, split_of, text_key
from rllib_dapo.envs.verify.sent_rule import SentRule, prepare


class RewardFunctionEnv(SingleStepTextEnv):
    """Asks the prompts of a file, and rewards the responses with a function or several sources.

    Reset seeds 0 .. N-1 are the first epoch over the N prompts, N .. 2N-1 the second, in another
    order. A prompt may be a conversation with a system message and earlier turns: the template goes
    around the user's last message, and a function gets the whole as one text. Answers that are
    lists or mappings reach a function as JSON. `data_report` says what was taken, left out and
    changed.

    `info["reward_components"]` holds each source's value by name. Functions run in processes that
    are killed if they hang, unless `verify_in` says otherwise or a classifier is among the
    components.

    Settings, with their defaults:
        path: A file of prompts, a pattern or a folder of such files, a Hugging Face data set, or a
            list of these; has no default. See `sources.find_sources`. Answers are optional.
        reward: A function of prompt and response (and answer, if it takes three),
            "package.module:function", or a weighted sum of named components; has no default. See
            `reward_sources.make_reward`.
        success_at: None; if set, a response whose reward is at least this is correct.
        template: "{problem}"; the text around a prompt.
        columns: None; {"question": ..., "answer": ..., "system": ...} names the file's columns if
            they cannot be told from their names.
        weights: None; if set, a number for each entry of `path`: its share of the problems.
        max_prompt_characters: 1,000,000; longer prompts are left out and counted.
        disjoint_from: None; files like `path` that must not share a problem with it.
        split: "all", or "train" or "heldout".
        heldout_fraction: 0.1; share of prompts that is held out, decided by a hash of their text.
        seed: 0; chooses the order of the prompts. Splits do not depend on it.
        limit: None; if set, only this many prompts of the split are used, the first ones.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a setting is refused, a file cannot be read, or no prompt is left.
    """

    default_settings: ClassVar[Mapping[str, Any]] = {
        "path": None,
        "reward": None,
        "success_at": None,
        "template": "{problem}",
        "columns": None,
        "weights": None,
        "max_prompt_characters": MAX_PROMPT_CHARACTERS,
        "disjoint_from": None,
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

        self._reward = make_reward(given["reward"], success_at=given["success_at"])
        self._template = check_template("template", given["template"], "problem")
        self.needs_process = self._reward.needs_process

        split = check_choice("split", given["split"], ("all", *SPLITS))
        fraction = check_fraction("heldout_fraction", given["heldout_fraction"])
        seed = check_integer("seed", given["seed"], low=0)
        limit = None if given["limit"] is None else check_integer("limit", given["limit"], low=1)
        longest = check_integer(
            "max_prompt_characters",
            given["max_prompt_characters"],
            low=1,
            high=MAX_PROMPT_CHARACTERS,
        )

        reading = {
            "columns": given["columns"],
            "max_prompt_characters": longest,
            "need_answers": False,
            # A rule compares a response with a short text; a function may be given anything.
            "answers_as_data": not self._reward.has_rule,
        }
        dataset = load_dataset(given["path"], **reading)
        selected, unreadable = _select(dataset, split, fraction, has_code=self._reward.has_code)
        self.problems = selected[:limit]
        self.data_report = dataset.report.used(
            len(self.problems),
            (
                unreadable,
                RowFinding(
                    what="left out",
                    reason=OTHER_SPLIT,
                    rows=len(dataset.problems) - len(selected) - unreadable.rows,
                ),
                RowFinding(
                    what="left out", reason=LIMITED, rows=len(selected) - len(self.problems)
                ),
            ),
        )
        self._order = visiting_order(dataset, self.problems, weights=given["weights"], seed=seed)

        if given["disjoint_from"] is not None:
            others = load_dataset(given["disjoint_from"], **reading)
            refuse_overlap(self.problems, others.problems, settings="path or disjoint_from")

    def problem(self, seed: int) -> Problem:
        """Returns the prompt at position `seed` of the endless visit to the file."""
        found = self.problems[self._order(seed)]
        prompt = with_last_text(found.prompt, lambda text: self._template.format(problem=text))
        return Problem(prompt=prompt, answer=found.answer, problem_id=found.problem_id)

    def score(self, problem: Problem, response: str) -> Verdict:
        """Adds up the reward's components."""
        return self._reward(problem, response)

    def scoring_rule(self) -> SentRule:
        """Returns the reward alone: processes that score need no prompts."""
        return prepare(
            self._reward.of_texts,
            patience=self._reward.patience,
            least_seconds=self._reward.least_seconds,
        )

    def scoring_arguments(self, problem: Problem, response: str) -> tuple[str | float, ...]:
        """Returns the texts of the problem, and the response."""
        return problem.text, problem.answer, problem.problem_id, response


# The copies of an environment in a process share their problems.
@lru_cache(maxsize=8)
def _select(
    dataset: Dataset, split: str, heldout_fraction: float, *, has_code: bool
) -> tuple[tuple[Problem, ...], RowFinding]:
    """Returns the problems of a split, and those of it that are left out for their tests."""
    of_split = [
        p
        for p in dataset.problems
        if split in ("all", split_of(text_key(p.text), heldout_fraction))
    ]
    faults = {p.problem_id: fault_of_tests(p) for p in of_split} if has_code else {}
    selected = tuple(p for p in of_split if not faults.get(p.problem_id))
    told = [f"{problem_id}: {fault}" for problem_id, fault in faults.items() if fault]

    if of_split and not selected:
        raise ValueError(
            f"path: not one of {len(of_split)} problems has tests that can be read, such as "
            f"{told[0]}; name the column that holds them, as in columns={{'answer': 'tests'}}"
        )
    if not selected:
        raise ValueError(
            f"split={split!r}: no prompt is left of {len(dataset.problems)} with "
            f"heldout_fraction={heldout_fraction}; change one of the two or use more data"
        )
    example = told[0][:100] if told else ""
    unreadable = RowFinding(what="left out", reason=NO_TESTS, rows=len(told), example=example)
    return selected, unreadable
