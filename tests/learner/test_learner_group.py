"""Asking all Learners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.learner.learner_group import ask_learners

LearnerConfig = Callable[..., DAPOConfig]
MakeTrainer = Callable[[DAPOConfig], Any]


def test_the_first_learner_that_fails_is_heard(
    make_trainer: MakeTrainer, learner_config: LearnerConfig
) -> None:
    trainer = make_trainer(learner_config())

    def fail(learner: Any) -> None:
        raise KeyError("this Learner")

    with pytest.raises(KeyError, match="this Learner"):
        ask_learners(trainer.group, fail)
    assert ask_learners(trainer.group, lambda learner: learner.sharding) == ["none"]
