"""Asking all Learners at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ray.rllib.core.learner.learner_group import LearnerGroup

from rllib_dapo.learner.collectives import rank

if TYPE_CHECKING:
    from rllib_dapo.learner.learner import DAPOTorchLearner

T = TypeVar("T")


def ask_learners(learner_group: LearnerGroup, question: Callable[[DAPOTorchLearner], T]) -> list[T]:
    """Asks all Learners at the same time, as collectives need it.

    RLlib passes over a Learner's exception; here the first one is raised.

    Args:
        learner_group: The Learners.
        question: Function of a Learner, run in its process.

    Returns:
        The answers by rank.
    """
    results = list(learner_group.foreach_learner(lambda learner: (rank(), question(learner))))
    for result in results:
        if not result.ok:
            raise result.get()

    answers = sorted((result.get() for result in results), key=lambda pair: pair[0])
    return [answer for _, answer in answers]
