"""The configuration itself: names, defaults, presets, and what follows from settings."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from rllib_dapo import DAPOConfig
from rllib_dapo.config.objective_presets import PRESETS
from rllib_dapo.config.value_checks import check_settings
from rllib_dapo.findings import suggest
from rllib_dapo.learner.learner import DAPOTorchLearner

NEEDS_DEEPSPEED = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="DeepSpeed is not installed"
)


def valid_config() -> DAPOConfig:
    return DAPOConfig().environment("rllib_dapo/Arithmetic-v0").language_model("tiny")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("epsilon_hihg", "epsilon_high"), ("prompt_per_step", "prompts_per_step"), ("lrr", "lr")],
)
def test_a_misspelt_name_is_refused_with_a_suggestion(name: str, meant: str) -> None:
    config = valid_config()
    with pytest.raises(ValueError, match=f"^unknown setting '{name}'; did you mean '{meant}'\\?$"):
        config.update_from_dict({name: 1})
    assert not hasattr(config, name)


def test_a_name_like_no_other_is_refused_without_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"^unknown setting 'qqqqqqqq'$"):
        valid_config().update_from_dict({"qqqqqqqq": 1})
    assert suggest("qqqqqqqq", ["epsilon_low"]) == ""


def test_a_configuration_survives_the_dictionary_that_tune_makes_of_it() -> None:
    config = valid_config().training(epsilon_high=0.3, lr=1e-4)
    again = DAPOConfig.from_dict(config.to_dict())
    assert again.to_dict() == config.to_dict()
    assert (again.epsilon_high, again.lr, again.model_name) == (0.3, 1e-4, "tiny")


def test_the_defaults_are_the_papers() -> None:
    """Section 4.1 of arXiv 2503.14476; where it is silent, its public recipe."""
    config = DAPOConfig()
    paper = {
        "lr": 1e-6,
        "warmup_steps": 20,
        "prompts_per_step": 512,
        "group_size": 16,
        "minibatch_size": 512,
        "epsilon_low": 0.2,
        "epsilon_high": 0.28,
        "dual_clip": None,
        "max_response_tokens": 16_384 + 4_096,
        "overlong_buffer": 4_096,
        "overlong_penalty": 1.0,
        "loss_aggregation": "token_mean",
        "normalize_advantages_by_std": True,
        "dynamic_sampling_enabled": True,
        "evaluation_temperature": 1.0,
        "evaluation_top_p": 0.7,
    }
    recipe = {
        "weight_decay": 0.1,
        "grad_clip": 1.0,
        "max_prompt_tokens": 2048,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_rounds": 10,
        "max_oversampling": 1536 / 512,
    }
    expected = paper | recipe
    assert {name: getattr(config, name) for name in expected} == expected
    assert config.train_batch_responses // config.minibatch_size == 16


@pytest.mark.parametrize(
    ("longest", "width"), [(20_480, 4096), (40_000, 4096), (100, 20), (6, 1), (4, 0)]
)
def test_the_zone_of_long_responses_is_at_most_a_fifth_of_a_response(
    longest: int, width: int
) -> None:
    config = valid_config().rollout(max_response_tokens=longest)
    assert list(check_settings(config)) == []
    assert config.overlong_buffer == width
    assert config.overlong(buffer_tokens=3).overlong_buffer == 3


OBJECTIVE = (
    "epsilon_low",
    "epsilon_high",
    "dual_clip",
    "ratio_level",
    "loss_aggregation",
    "advantage_estimator",
    "normalize_advantages_by_std",
    "entropy_coefficient",
    "entropy_mask_fraction",
    "token_mask",
    "kl_coefficient",
    "kl_estimator",
    "kl_placement",
    "dynamic_sampling_enabled",
    "overlong_penalty",
    "overlong_filtering",
)


# The columns of the table PPO -> GRPO -> DAPO, as far as they differ from DAPO's.
COLUMNS: dict[str, dict[str, Any]] = {
    "dapo": {},
    "grpo": {
        "epsilon_high": 0.2,
        "loss_aggregation": "sequence_mean",
        "kl_coefficient": 0.04,
        "dynamic_sampling_enabled": False,
        "overlong_penalty": 0.0,
    },
    "ppo": {
        "epsilon_high": 0.2,
        "advantage_estimator": "gae",
        "dynamic_sampling_enabled": False,
        "overlong_penalty": 0.0,
    },
}


@pytest.mark.parametrize("preset", COLUMNS)
def test_a_preset_is_its_column_of_the_table(preset: str) -> None:
    config, dapo = PRESETS[preset](valid_config()), DAPOConfig()
    expected = {name: getattr(dapo, name) for name in OBJECTIVE} | COLUMNS[preset]
    assert {name: getattr(config, name) for name in OBJECTIVE} == expected
    assert list(check_settings(config)) == []


@pytest.mark.parametrize("preset", ["grpo", "ppo"])
def test_a_preset_leaves_nothing_of_what_the_objective_was(preset: str) -> None:
    config = valid_config().training(
        epsilon_low=0.1,
        epsilon_high=0.4,
        dual_clip=10.0,
        ratio_level="sequence",
        loss_aggregation="sequence_sum_norm",
        advantage_estimator="leave_one_out",
        normalize_advantages_by_std=False,
        entropy_coefficient=0.1,
        entropy_mask_fraction=0.2,
        token_mask="masks:critical",
    )
    config.kl(coefficient=0.5, estimator="k2", placement="reward").overlong(
        filtering=True, penalty=2.0
    )
    config, fresh = PRESETS[preset](config), PRESETS[preset](DAPOConfig())
    assert {name: getattr(config, name) for name in OBJECTIVE} == {
        name: getattr(fresh, name) for name in OBJECTIVE
    }


def test_what_is_set_after_a_preset_is_set_on_top() -> None:
    config = valid_config().grpo().kl(coefficient=0.0).training(epsilon_high=0.28)
    assert (config.kl_coefficient, config.epsilon_high, config.loss_aggregation) == (
        0.0,
        0.28,
        "sequence_mean",
    )


def test_a_value_model_and_a_reference_are_asked_for_only_where_they_are_needed() -> None:
    def asked(config: DAPOConfig) -> tuple[bool, bool, float]:
        includes = config._model_config_auto_includes
        return includes["value_head"], includes["reference"], includes["freeze_fraction"]

    assert asked(valid_config()) == (False, False, 0.0)
    assert asked(valid_config().ppo()) == (True, False, 0.0)
    assert asked(valid_config().grpo().language_model(freeze_fraction=0.1)) == (False, True, 0.1)


@NEEDS_DEEPSPEED
def test_a_deepspeed_configuration_chooses_its_learner() -> None:
    assert valid_config().get_default_learner_class() is DAPOTorchLearner
    sharded = (
        valid_config().deepspeed({"zero_optimization": {"stage": 1}}).get_default_learner_class()
    )
    assert sharded is not DAPOTorchLearner
    assert issubclass(sharded, DAPOTorchLearner)
