"""Every task of the library reasoning-gym, by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import count, islice
from pathlib import Path
from typing import Any, ClassVar

from rllib_dapo.envs.adapters.child import Child, ChildError
from rllib_dapo.envs.adapters.reasoning_gym_worker import BLOCK
from rllib_dapo.envs.base import Problem, SingleStepTextEnv, Verdict
from rllib_dapo.envs.env_settings import (
    check_choice,
    check_fraction,
    check_integer,
    check_template,
    is_finite_number,
)
from rllib_dapo.envs.scoring import SCORING_SETTINGS
from rllib_dapo.envs.splits import SPLITS, split_of

TEMPLATE = "{question}\n\nThink it through, then write the final answer, and nothing else, as <answer>...</answer>."

_WORKER = Path(__file__).with_name("reasoning_gym_worker.py")
_SEED_RANGE = 2**32 - BLOCK  # what NumPy's old generator, which one of the tasks seeds, takes
_ENTRY_SECONDS = 60.0
_DRAWS = 1_000  # in search of an entry of the split


class ReasoningGymEnv(SingleStepTextEnv):
    """Asks the problems that a reasoning-gym task makes; each reset seed is one of its entries.

    The reward is the task's own score, from 0 to 1, and most tasks give some of it for what is
    nearly right. Problems are made and scored in a process of its own, which is killed where it
    takes too long: the verdict is then missing. An answer is never evaluated as code, which some of
    the library's scorers would do. ``info["problem_id"]`` names the
    entry: task, seed of the data set, index in it.

    Settings, with their defaults:
        task: The task's name, such as "leg_counting"; has no default. ``composite`` takes a list
            ``datasets`` of ``{"name": ..., "weight": ..., "config": {...}}``.
        template: The question, and how to mark the answer; a prompt with the field {question}.
        answer_tag: "answer"; what stands in the last <answer>...</answer> is scored, or without one
            the whole response. None: always the whole response.
        success_at: 0.99; the score from which on a response is correct. None: the score is a grade
            and nothing more, so that dynamic sampling keeps a group whose scores differ, though
            none of its responses may be right.
        split: "all", or "train" or "heldout".
        heldout_fraction: 0.1; the share of problems that is held out, told by a hash of their text.
        seed: 0; chooses among the streams of problems. Splits do not depend on it.
        Any other setting is one of the task's own, such as ``max_animals``, or one of those of
        every environment, of which ``verify_seconds`` bounds the scoring here too.

    Raises:
        ValueError: If a setting is refused or the package is not there.
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
        given = {**(config or {}), **kwargs}
        everybodys = {**self.default_settings, **SCORING_SETTINGS, "render_mode": None}
        own = {name: value for name, value in given.items() if name not in everybodys}
        super().__init__({name: value for name, value in given.items() if name in everybodys})
        self._template = check_template("template", self.settings["template"], "question")
        self._tag = _tag_pattern(self.settings["answer_tag"])
        self._success_at = self.settings["success_at"]
        if self._success_at is not None and not is_finite_number(self._success_at):
            raise ValueError(f"success_at={self._success_at!r}: must be a number, or None")
        self._split = check_choice("split", self.settings["split"], ("all", *SPLITS))
        self._heldout_fraction = check_fraction(
            "heldout_fraction", self.settings["heldout_fraction"]
        )
        self._seed = check_integer("seed", self.settings["seed"], low=0)
        self._deadline = float(given.get("verify_seconds", SCORING_SETTINGS["verify_seconds"]))
        self.settings |= own
        # Texts hash alike in all such processes, so that sets of them are walked through in one
        # order.
        environment = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        described = json.dumps({"task": self.settings["task"], "settings": own})
        self._worker = Child(_WORKER, [described], environment=environment)
        refused = self._worker.start().get("refused")
        if refused:
            self._worker.close()
            raise ValueError(f"{type(self).__name__}: {refused}")

    def problem(self, seed: int) -> Problem:
        """Returns the entry of a reset seed: the first of its draws that lies in the split.

        Raises:
            ValueError: If none of 1,000 draws lies in it.
            RuntimeError: If the task does not make its problem in time.
        """
        for entry in islice(self._draws(seed), _DRAWS):
            made = self._worker.ask({"entry": entry}, deadline=_ENTRY_SECONDS)
            question = made["question"]
            if self._split in ("all", split_of(question, self._heldout_fraction)):
                problem_id = "/".join(map(str, (self.settings["task"], *entry)))
                prompt = self._template.format(question=question)
                # Some tasks have many right answers and name none.
                return Problem(
                    prompt=prompt, answer=str(made["answer"] or ""), problem_id=problem_id
                )
        raise ValueError(
            f"split={self._split!r}: none of {_DRAWS} problems of {self.settings['task']} lies in it with "
            f"heldout_fraction={self._heldout_fraction}; change one of the two"
        )

    def score(self, problem: Problem, response: str) -> Verdict:
        """Has the task score the answer in the response."""
        answer = self.answer_in(response)
        entry = [int(part) for part in problem.problem_id.split("/")[-2:]]
        try:
            result = self._worker.ask({"entry": entry, "answer": answer}, deadline=self._deadline)
        except ChildError as error:
            return Verdict(is_correct=None, prediction=answer[:300], reason=str(error))
        score, reason = result["score"], result["reason"]
        is_correct = None if self._success_at is None else score >= self._success_at
        return Verdict(is_correct=is_correct, reward=score, prediction=answer[:300], reason=reason)

    def answer_in(self, response: str) -> str:
        """Returns the part of a response that is scored."""
        found = self._tag.findall(response) if self._tag else []
        return (found[-1] if found else response).strip()

    def close(self) -> None:
        """Ends the process."""
        self._worker.close()
        super().close()

    def _draws(self, seed: int) -> Iterator[tuple[int, int]]:
        """Yields entries as (seed of a data set, index in it), other ones for every reset seed."""
        block, index = divmod(seed, BLOCK)
        for draw in count():
            digest = blake2b(f"{self._seed}/{block}/{draw}".encode(), digest_size=8).digest()
            yield int.from_bytes(digest, "big") % _SEED_RANGE, index


def _tag_pattern(tag: Any) -> re.Pattern[str] | None:
    if tag is None:
        return None
    if not isinstance(tag, str) or not re.fullmatch(r"\w+", tag):
        raise ValueError(f"answer_tag={tag!r}: must be a name such as 'answer', or None")
    # Neither tag may stand within: such a pattern takes no longer than the response is long.
    return re.compile(rf"<{tag}>((?:(?!</?{tag}>).)*)</{tag}>", re.DOTALL)
