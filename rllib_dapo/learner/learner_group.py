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
    """Every Learner's answer, by rank; the first exception is raised here, where RLlib would pass over it."""
    results = list(learner_group.foreach_learner(lambda learner: (rank(), question(learner))))
    for result in results:
        if not result.ok:
            raise result.get()
    return [
        answer
        for _, answer in sorted((result.get() for result in results), key=lambda pair: pair[0])
    ]
