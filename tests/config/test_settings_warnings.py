"""What is allowed, and said all the same."""

from __future__ import annotations

from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.config.objective_checks import idle_clip_warning
from rllib_dapo.config.value_checks import settings_warnings


def valid_config() -> DAPOConfig:
    return DAPOConfig().environment("rllib_dapo/Arithmetic-v0").language_model("tiny")


def test_evaluation_may_be_greedy_and_training_may_not() -> None:
    config = valid_config().evaluation(evaluation_temperature=0, evaluation_interval=1)
    config.validate()
    assert config.evaluation_responses_per_prompt == 1
    (told,) = settings_warnings(config)
    assert "asked once instead of evaluation_samples_per_prompt=8 times" in told

    config.evaluation(evaluation_samples_per_prompt=1)
    assert settings_warnings(config) == []
    with pytest.raises(ValueError, match=r"rollout.temperature=0 must be positive: at 0 all"):
        config.rollout(temperature=0).validate()


@pytest.mark.parametrize(
    ("attributes", "is_idle"),
    [
        ({}, False),
        ({"minibatch_size": 4096}, False),
        ({"minibatch_size": 8192}, True),
        ({"minibatch_size": 8192, "old_logprobs": "sampler"}, True),
    ],
    ids=str,
)
def test_one_update_per_rollout_makes_the_clip_idle(
    attributes: dict[str, Any], is_idle: bool
) -> None:
    config = valid_config().update_from_dict(attributes)
    assert config.clip_is_idle is is_idle
    warning = idle_clip_warning(config)
    assert (warning is not None) is is_idle
    if warning:
        assert warning.startswith(
            "training.minibatch_size=8192 makes one update of the 8192 responses"
        )
        assert "to 2048 for example" in warning
        assert "\n" not in warning
