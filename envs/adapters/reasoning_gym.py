"""Every task of the library reasoning-gym, by its name."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import count, islice
from typing import Any, ClassVar

from rllib_dapo.envs.adapters.reasoning_gym_tasks import BLOCK
from rllib_dapo.envs.base import Problem, SingleStepTextEnv, Ticket, Verdict
from rllib_dapo.envs.env_settings import (
    check_choice,
    check_fraction,
    check_integer,
    check_template,
    is_finite_number,
)
from rllib_dapo.envs.processes.daemon_threads import DaemonThreads
from rllib_dapo.envs.processes.killable_process import Program
from rllib_dapo.envs.processes.process_team import ProcessTeam
from rllib_dapo.envs.processes.replies import DeadlineMissed, ProcessFailure, ServiceRefused
from rllib_dapo.envs.scoring import SCORING_SETTINGS
from rllib_dapo.envs.splits import SPLITS, split_of
from rllib_dapo.envs.verify import MissingReason

TEMPLATE = (
    "{question}\n\nThink it through, then write the final answer, and nothing else, as "
    "<answer>...</answer>."
)

_SERVICE = "rllib_dapo.envs.adapters.reasoning_gym_tasks:Tasks"
_MEMORY_BYTES = 4 * 2**30
_SEED_RANGE = 2**32 - BLOCK  # what NumPy's old generator, which one of the tasks seeds, takes
_ENTRY_SECONDS = 10.0  # at least; some tasks search for half a second on an idle machine
_MOST_PROCESSES = 4  # by default: one for each core up to this
_DRAWS = 1_000  # in search of an entry of the split
_LONGEST_PREDICTION = 300  # characters of it that are kept


class ReasoningGymEnv(SingleStepTextEnv):
    """Asks the problems that a reasoning-gym task makes; each reset seed is one of its entries.

    The reward is the task's own score, from 0 to 1, and most tasks give some of it for what is
    nearly right. Problems are made and scored in processes of the environment's own, several side
    by side. One that takes too long is killed: the verdict is then missing. An answer is never
    evaluated as code, which some of the library's scorers would do. `info["problem_id"]` names the
    entry: task, seed of the data set, index in it.

    Settings, with their defaults:
        task: The task's name, such as "leg_counting"; has no default. `composite` takes a list
            `datasets` of `{"name": ..., "weight": ..., "config": {...}}`.
        template: The question, and how to mark the answer; a prompt with the field {question}.
        answer_tag: "answer"; the inside of the last <answer>...</answer> is scored, or the whole
            response if there is none. None: always the whole response.
        success_at: 0.99; least score of a correct response. None: the score is a mere grade, so
            that dynamic sampling keeps a group whose scores differ, though perhaps none of its
            responses is right.
        split: "all", or "train" or "heldout".
        heldout_fraction: 0.1; share of problems that is held out, decided by a hash of their text.
        seed: 0; chooses among the streams of problems. Splits do not depend on it.
        Any other setting is one of the task's own, such as `max_animals`, or one of those of
        every environment, of which `verify_seconds` and `verify_processes` bound the scoring here
        too.

    Raises:
        ValueError: If a setting is refused or the package is not installed.
    """

    default_settings: ClassVar[Mapping[str, Any]] = {
        "task": None,
        "template": TEMPLATE,
        "answer_tag": "answer",
        "success_at": 0.99,
        "split": "all",
        "heldout_fraction": 0.1,
        "seed": 0,
    }

    def __init__(self, config: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        # Whatever this environment does not know is a setting of the task.
        given = {**(config or {}), **kwargs}
        everybodys = {**self.default_settings, **SCORING_SETTINGS, "render_mode": None}
        own = {name: value for name, value in given.items() if name not in everybodys}
        super().__init__({name: value for name, value in given.items() if name in everybodys})

        settings = self.settings
        self._template = check_template("template", settings["template"], "question")
        self._tag = _tag_pattern(settings["answer_tag"])
        self._success_at = settings["success_at"]
        if self._success_at is not None and not is_finite_number(self._success_at):
            raise ValueError(f"success_at={self._success_at!r}: must be a number, or None")
        self._split = check_choice("split", settings["split"], ("all", *SPLITS))
        self._heldout_fraction = check_fraction("heldout_fraction", settings["heldout_fraction"])
        self._seed = check_integer("seed", settings["seed"], low=0)
        self._deadline = float(given.get("verify_seconds", SCORING_SETTINGS["verify_seconds"]))
        self.settings |= own

        # Started at once, for the task itself knows which settings it takes.
        most = given.get("verify_processes") or min(_MOST_PROCESSES, os.cpu_count() or 1)
        self._team = ProcessTeam(_program(self.settings["task"], own), most=most)
        self._threads = DaemonThreads(most, name="reasoning-gym")
        try:
            self._team.start()
        except ServiceRefused as refusal:
            self._team.close()
            raise ValueError(f"{type(self).__name__}: {refusal}") from None

    def problem(self, seed: int) -> Problem:
        """Returns the entry of a reset seed: the first of its draws that lies in the split.

        Raises:
            ValueError: If none of 1,000 draws lies in it.
            ProcessFailure: If the task does not make its problem in time.
        """
        deadline = max(_ENTRY_SECONDS, self._deadline)
        for entry in islice(self._draws(seed), _DRAWS):
            made = self._team.call({"entry": entry}, deadline=deadline)
            question = made["question"]
            if self._split in ("all", split_of(question, self._heldout_fraction)):
                return Problem(
                    prompt=self._template.format(question=question),
                    # Some tasks have many right answers and name none.
                    answer=str(made["answer"] or ""),
                    problem_id="/".join(map(str, (self.settings["task"], *entry))),
                )

        raise ValueError(
            f"split={self._split!r}: none of {_DRAWS} problems of {self.settings['task']} lies in "
            f"it with heldout_fraction={self._heldout_fraction}; change one of the two"
        )

    def score(self, problem: Problem, response: str) -> Verdict:
        """Has the task score the answer in the response."""
        answer = self.answer_in(response)
        prediction = answer[:_LONGEST_PREDICTION]
        entry = [int(part) for part in problem.problem_id.split("/")[-2:]]

        try:
            result = self._team.call({"entry": entry, "answer": answer}, deadline=self._deadline)
        except ProcessFailure as failure:
            is_late = isinstance(failure, DeadlineMissed)
            kind = MissingReason.TIMEOUT if is_late else MissingReason.CRASH
            return Verdict(is_correct=None, prediction=prediction, reason=f"{kind}: {failure}")

        score, reason = result["score"], result["reason"]
        is_correct = None if self._success_at is None else score >= self._success_at
        return Verdict(is_correct=is_correct, reward=score, prediction=prediction, reason=reason)

    def answer_in(self, response: str) -> str:
        """Returns the part of a response that is scored."""
        found = self._tag.findall(response) if self._tag else []
        return (found[-1] if found else response).strip()

    @property
    def scores_apart(self) -> bool:
        """Always: in the task's own processes, side by side."""
        return True

    def close(self) -> None:
        """Ends the processes."""
        self._threads.close()
        self._team.close()
        super().close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_threads": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._threads = DaemonThreads(self._team.most, name="reasoning-gym")

    def _begin(self, problem: Problem, response: str) -> Ticket:
        return Ticket(problem=problem, outcome=self._threads.submit(self.score, problem, response))

    def _draws(self, seed: int) -> Iterator[tuple[int, int]]:
        """Yields entries as (seed of a data set, index in it), different for every reset seed."""
        block, index = divmod(seed, BLOCK)
        for draw in count():
            digest = blake2b(f"{self._seed}/{block}/{draw}".encode(), digest_size=8).digest()
            yield int.from_bytes(digest, "big") % _SEED_RANGE, index


def _program(task: Any, settings: Mapping[str, Any]) -> Program:
    # Without the current folder, where Ray's workers look: a module there may have the name of the
    # library.
    here = os.getcwd()
    path = tuple(entry for entry in sys.path if entry and os.path.abspath(entry) != here)

    return Program(
        service=_SERVICE,
        settings={"task": task, "settings": dict(settings)},
        path=path,
        # Texts hash alike in all such processes, so that sets of them are walked through in one
        # order.
        environment={"PYTHONHASHSEED": "0"},
        memory_total=_MEMORY_BYTES,
        is_silent=True,
    )


def _tag_pattern(tag: Any) -> re.Pattern[str] | None:
    if tag is None:
        return None
    if not isinstance(tag, str) or not re.fullmatch(r"\w+", tag):
        raise ValueError(f"answer_tag={tag!r}: must be a name such as 'answer', or None")
    # Neither tag may be inside: such a pattern takes time in proportion to the response's length.
    return re.compile(rf"<{tag}>((?:(?!</?{tag}>).)*)</{tag}>", re.DOTALL)
