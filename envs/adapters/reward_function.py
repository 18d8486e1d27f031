"""A function of prompt and response as an environment, over a file of prompts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

from rllib_dapo.envs.adapters.judged_scoring import JudgedScoring
from rllib_dapo.envs.adapters.reward_sources import make_reward
from rllib_dapo.envs.adapters.weighted_reward import texts_of
from rllib_dapo.envs.base import Problem, SingleStepTextEnv, Ticket, Verdict
from rllib_dapo.envs.code.code_reward import fault_of_tests
from rllib_dapo.envs.datasets import (
    MAX_PROMPT_CHARACTERS,
    Dataset,
    load_dataset,
    refuse_overlap,
    visiting_order,
)
from rllib_dapo.envs.env_settings import check_choice, check_fraction, check_integer, check_template
from rllib_dapo.envs.json_rows import dig
from rllib_dapo.envs.judge.judge_template import OWN_FIELDS
from rllib_dapo.envs.processes.parted_future import parted
from rllib_dapo.envs.prompt_cells import with_last_text
from rllib_dapo.envs.row_counts import LIMITED, NO_TESTS, OTHER_SPLIT, DataReport, RowFinding
from rllib_dapo.envs.splits import SPLITS, split_of, text_key
from rllib_dapo.envs.verify.sent_rule import SentRule


class RewardFunctionEnv(SingleStepTextEnv):
    """Asks the prompts of a file, and rewards the responses with a function or several sources.

    Reset seeds 0 .. N-1 are the first epoch over the N prompts, N .. 2N-1 the second, in another
    order. A prompt may be a conversation with a system message and earlier turns: the template goes
    around the user's last message, and a function gets the whole as one text. Answers that are
    lists or mappings reach a function as JSON. `data_report` says what was taken, left out and
    changed.

    `info["reward_components"]` holds each source's value by name. Problems carry all columns of
    their rows, for functions and judges. Functions run in processes that are killed if they hang,
    unless `verify_in` says otherwise or a classifier is among the components. Judges are asked from
    an event loop of this process.

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
        self.scores_groups = self._reward.scores_groups
        self._judged = (
            JudgedScoring(self._reward, self._processes)
            if self._reward.parts(judges=True).components
            else None
        )

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
        dataset = load_dataset(given["path"], keep_columns=True, **reading)
        _refuse_unknown_columns(self._reward.columns, dataset.problems)
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
        return replace(found, prompt=prompt)

    def score(self, problem: Problem, response: str) -> Verdict:
        """Adds up the reward's components."""
        return self._reward(problem, response)

    def score_group(self, problem: Problem, responses: Sequence[str]) -> list[Verdict]:
        """Adds up the reward's components, one of which compares the responses."""
        return self._reward.judge(problem, responses)

    def scoring_rule(self) -> SentRule:
        """Returns the reward alone: processes that score need no prompts."""
        if self._judged is None:
            return self._reward.sent_rule()
        return self._reward.parts(judges=False).sent_rule(apart=True)

    def scoring_arguments(self, problem: Problem, response: str) -> tuple[str | float, ...]:
        """Returns the texts of the problem, and the response, or all of them as JSON."""
        return *texts_of(problem), response

    @property
    def scores_apart(self) -> bool:
        """Whether scoring is begun elsewhere: in processes, or by a judge."""
        return self._judged is not None or super().scores_apart

    def submit_group(self, problem: Problem, responses: Sequence[str]) -> list[Ticket]:
        """See `SingleStepTextEnv.submit_group`."""
        if self._judged is None:
            return super().submit_group(problem, responses)
        verdicts = self._judged.submit(problem, responses, in_process=self._scores_apart)
        return [
            Ticket(problem=problem, outcome=verdict) for verdict in parted(verdicts, len(responses))
        ]

    def close(self) -> None:
        """Gives up what is asked of a judge, and gives back the share in the verifier pool."""
        if self._judged is not None:
            self._judged.close()
        super().close()

    def _begin(self, problem: Problem, response: str) -> Ticket:
        if self._judged is None or self.scores_groups:
            return super()._begin(problem, response)
        return self.submit_group(problem, [response])[0]


def _refuse_unknown_columns(names: Collection[str], problems: Sequence[Problem]) -> None:
    """Refuses a judge's template with a field that no problem has.

    Raises:
        ValueError: If there is one; one line.
    """
    for name in names:
        if not any(dig(problem.columns, name) is not None for problem in problems):
            there = dict.fromkeys(
                column for problem in problems[:1000] for column in problem.columns
            )
            raise ValueError(
                f"reward: the judge's template has the field {{{name}}}, which is neither "
                f"{', '.join(OWN_FIELDS)} nor a column of the data; there are "
                f"{', '.join(there) or 'none'}"
            )


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
