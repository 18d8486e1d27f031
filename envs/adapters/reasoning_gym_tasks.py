"""What makes problems of reasoning-gym and scores answers, in a child process of its own.

Why a process of its own: some tasks depend on the order of sets of texts, which Python shuffles
anew in every process unless told otherwise at its start; and some scorers take minutes, or any
amount of memory, over an odd answer.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import random
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from rllib_dapo.envs.adapters.evaluated_answers import (
    EXPRESSIONS,
    LISTS,
    is_harmless_list,
    is_plain_expression,
)
from rllib_dapo.envs.processes.service import Refused, Service

# Entries of a data set: some tasks have a bound on their number, so later reset seeds are entries
# of further data sets.
BLOCK = 500

_OWN = ("seed", "size")
_CACHED_DATASETS = 64
# Some tasks search for half a second, and every response to a problem asks for its entry again.
_CACHED_ENTRIES = 512
_LONGEST_ANSWER = 10_000
_NOT_LOOKED_AT = "the answer is too long, or nothing that this task asks for"


class Tasks(Service):
    """The entries of one task, for any number of data sets of it.

    Calls are `{"entry": [seed, index]}`, which makes the entry, or the same with an `"answer"`,
    which is scored.

    Args:
        task: Name of the task in reasoning-gym.
        settings: The task's own settings.

    Raises:
        Refused: If the package is not installed, there is no such task, or it refuses its settings.
    """

    def __init__(self, task: Any, settings: dict[str, Any]) -> None:
        try:
            from reasoning_gym.factory import DATASETS
        except ImportError as error:
            raise Refused(
                f"needs the package reasoning-gym ({error}): pip install -e '.[reasoning-gym]' in "
                "a checkout of rllib-dapo"
            ) from error

        if not isinstance(task, str) or task not in DATASETS:
            raise Refused(
                f"task={task!r}: no such task{_guess(task, DATASETS)}; "
                f"there are {', '.join(sorted(DATASETS))}"
            )
        fields = [field.name for field in dataclasses.fields(DATASETS[task][1])]
        known = [name for name in fields if name not in _OWN]
        for name, value in settings.items():
            if name not in known:
                raise Refused(
                    f"unknown setting {name!r} (value {value!r}){_guess(name, known)}; "
                    f"the task {task} has {', '.join(known)}"
                )

        self._task = task
        self._settings = settings
        self._dataset = lru_cache(maxsize=_CACHED_DATASETS)(self._make)
        self._entry = lru_cache(maxsize=_CACHED_ENTRIES)(self._make_entry)

        # A task looks at its settings when a data set is made.
        try:
            self._dataset(0)
        except Exception as error:
            told = str(error) or type(error).__name__
            raise Refused(f"task={task!r} refuses its settings {settings!r}: {told}") from error

    def call(self, content: Any) -> dict[str, Any]:
        """Returns an entry's question and answer, or the score of an answer to it."""
        seed, index = content["entry"]
        if "answer" in content:
            return self.score(seed, index, content["answer"])
        entry = self.entry(seed, index)
        return {"question": entry["question"], "answer": entry["answer"]}

    def entry(self, seed: int, index: int) -> dict[str, Any]:
        """Returns an entry of the data set of a seed.

        It is the caller's own, for some scorers change what they get.
        """
        return copy.deepcopy(self._entry(seed, index))

    def score(self, seed: int, index: int, answer: str) -> dict[str, Any]:
        """Scores an answer to an entry, 0 to 1, and says why where it was not looked at."""
        entry = self.entry(seed, index)
        # What is equal is right, and every scorer compares before it does anything else.
        if answer != entry["answer"] and self._may_do_harm(answer, entry):
            return {"score": 0.0, "reason": _NOT_LOOKED_AT}

        # The right answer is never refused: a scorer that raises does so because of what the model
        # wrote.
        try:
            return {"score": float(self._dataset(seed).score_answer(answer, entry)), "reason": ""}
        except Exception as error:
            return {"score": 0.0, "reason": f"the scorer raised {type(error).__name__}"}

    def _may_do_harm(self, answer: str, entry: dict[str, Any]) -> bool:
        """Whether the scorer might run the answer as code, or take very long over it."""
        if len(answer) > _LONGEST_ANSWER:
            return True
        # A composite's entry is scored by the task that it came from.
        tasks = {self._task, entry["metadata"].get("source_dataset")}
        if tasks & EXPRESSIONS and not is_plain_expression(answer):
            return True
        return bool(tasks & LISTS) and not is_harmless_list(answer)

    def _make_entry(self, seed: int, index: int) -> dict[str, Any]:
        dataset = self._dataset(seed)
        # codeio and list_functions draw from Python's own generator too.
        random.seed(f"{seed}/{index}")
        made: dict[str, Any] = dataset[index]
        return made

    def _make(self, seed: int) -> Any:
        from reasoning_gym.composite import DatasetSpec
        from reasoning_gym.factory import create_dataset

        settings = dict(self._settings)
        if self._task == "composite":
            listed = settings.get("datasets") or []
            parts = [{"weight": 1.0, "config": {}, **part} for part in listed]
            settings["datasets"] = [DatasetSpec(**part) for part in parts]
        return create_dataset(self._task, seed=seed, size=BLOCK, **settings)


def _guess(name: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1) if isinstance(name, str) else []
    return f"; did you mean {close[0]!r}?" if close else ""
