"""What is allowed, and said all the same."""

from __future__ import annotations

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.config.value_checks import settings_warnings


def test_evaluation_may_be_greedy_and_training_may_not() -> None:
    config = (
        DAPOConfig()
        .environment("rllib_dapo/Arithmetic-v0")
        .language_model("tiny")
        .evaluation(evaluation_temperature=0, evaluation_interval=1)
    )
    config.validate()
    assert config.evaluation_responses_per_prompt == 1
    (told,) = settings_warnings(config)
    assert "asked once instead of evaluation_samples_per_prompt=8 times" in told

    config.evaluation(evaluation_samples_per_prompt=1)
    assert settings_warnings(config) == []
    with pytest.raises(ValueError, match=r"rollout.temperature=0 must be positive: at 0 all"):
        config.rollout(temperature=0).validate()
