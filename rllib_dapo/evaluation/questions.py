"""The problems that an evaluation asks, read from the environment of a data set."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import gymnasium as gym

from rllib_dapo.envs.messages import as_conversation, plain_text
from rllib_dapo.evaluation.evaluation_settings import DataSet
from rllib_dapo.findings import SettingsError, one_line
from rllib_dapo.rollout.make_environment import make_environment

ENDLESS_PROBLEMS = 256  # asked of an environment that generates problems without end


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A problem as the environment poses it.

    Attributes:
        seed: Reset seed of the environment.
        problem_id: The environment's name of the problem; the seed if it gives none.
        prompt: Observation at reset, as one text.
        answer: Ground truth; `""` if the environment does not tell it.
    """

    seed: int
    problem_id: str
    prompt: str
    answer: str


def read_questions(data_set: DataSet, notes: list[str]) -> tuple[Question, ...]:
    """Resets the environment of a data set with the seeds 0, 1, ... and keeps what it asks.

    Each problem is asked once, up to the limit of the data set. An environment tells how many it
    has by an attribute `problems` that has a length. One without it is taken to have no end.

    Args:
        data_set: The data set.
        notes: Lines for the user; extended where fewer or other problems are asked than expected.

    Raises:
        SettingsError: If the environment cannot be reset.
    """
    env = make_environment(data_set.environment.env, data_set.environment.env_config)

    problems = getattr(env.unwrapped, "problems", None)
    available = len(problems) if isinstance(problems, Sized) else None
    if available is None:
        count = data_set.limit or ENDLESS_PROBLEMS
        if data_set.limit is None:
            notes.append(
                f"{data_set.name} generates problems without end: asking the first {count}; "
                "--limit sets how many"
            )
    else:
        count = min(available, data_set.limit or available)

    questions = _reset_with_seeds(env, data_set.name, count)

    different = len({question.prompt for question in questions})
    if available is not None and different < count:
        notes.append(
            f"{data_set.name}: its first {count} seeds give only {different} different prompts"
        )
    return questions


def questions_fingerprint(questions: Sequence[Question]) -> str:
    """Digest that differs between different lists of problems."""
    digest = blake2b(digest_size=16)
    for question in questions:
        for text in (str(question.seed), question.problem_id, question.prompt, question.answer):
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _reset_with_seeds(env: gym.Env[Any, Any], name: str, count: int) -> tuple[Question, ...]:
    """Resets an environment with its first seeds, then closes it."""
    questions = []
    try:
        for seed in range(count):
            prompt, info = env.reset(seed=seed)
            question = Question(
                seed=seed,
                problem_id=str(info.get("problem_id", seed)),
                prompt=plain_text(as_conversation(prompt)),
                answer=str(info.get("answer", "")),
            )
            questions.append(question)
    except Exception as error:  # a user's environment may raise anything
        raise SettingsError(f"{name}: reset: {type(error).__name__}: {one_line(error)}") from error
    finally:
        env.close()
    return tuple(questions)
