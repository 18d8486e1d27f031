"""What a configuration may hold, what is said of what it may not, and what it holds by default."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ray import tune

from rllib_dapo import DAPOConfig
from rllib_dapo.validation import check_settings, suggest


def valid_config() -> DAPOConfig:
    return DAPOConfig().environment("rllib_dapo/Arithmetic-v0").language_model("tiny")


# Findings


@pytest.mark.parametrize(
    ("setting", "attributes", "way_out"),
    [
        ("language_model.name", {"model_name": "tinny"}, 'did you mean "tiny"'),
        ("language_model.dtype", {"model_dtype": "float16"}, "one of float32, bfloat16; did you mean"),
        ("language_model.logprob_chunk_tokens", {"logprob_chunk_tokens": 0}, "at least 1"),
        ("language_model.num_threads", {"num_threads": 0}, "at least 1"),
        ("language_model.num_threads", {"num_threads": "all"}, "at least 1"),
        ("rollout.engine", {"engine": "vlm"}, "vllm, transformers; did you mean 'vllm'?"),
        ("rollout.max_prompt_tokens", {"max_prompt_tokens": 0}, "at least 1"),
        ("rollout.max_response_tokens", {"max_response_tokens": 0, "overlong_buffer_tokens": 0}, "at least 1"),
        ("rollout.max_concurrent_responses", {"max_concurrent_responses": 0}, "at least 1"),
        ("rollout.max_groups_in_flight", {"max_groups_in_flight": 0}, "at least 1"),
        ("rollout.temperature", {"temperature": 0.0}, "positive"),
        ("rollout.top_p", {"top_p": 0.0}, "in (0, 1]"),
        ("rollout.top_p", {"top_p": 1.5}, "in (0, 1]"),
        ("rollout.cpu_kv_cache_gib", {"cpu_kv_cache_gib": 0}, "positive"),
        ("training.epsilon_low", {"epsilon_low": 0.0}, "in (0, 1)"),
        ("training.epsilon_low", {"epsilon_low": 1.0, "epsilon_high": 1.0}, "in (0, 1)"),
        ("training.epsilon_high", {"epsilon_high": 0.1}, "raise epsilon_high, or lower epsilon_low"),
        ("training.dual_clip", {"dual_clip": 1.0}, "null to switch it off"),
        ("training.loss_aggregation", {"loss_aggregation": "token_maen"}, "did you mean 'token_mean'?"),
        ("training.old_logprobs", {"old_logprobs": "samplers"}, "trainer, sampler; did you mean 'sampler'?"),
        ("training.group_size", {"group_size": 1}, "at least 2: an advantage compares"),
        ("training.prompts_per_step", {"prompts_per_step": 0}, "at least 1"),
        ("training.prompts_per_step", {"prompts_per_step": -1}, "at least 1"),
        ("training.adam_betas", {"adam_betas": (0.9,)}, "two numbers in [0, 1)"),
        ("training.adam_betas", {"adam_betas": (0.9, 1.0)}, "two numbers in [0, 1)"),
        ("training.minibatch_size", {"minibatch_size": 0}, "at least 1"),
        ("training.minibatch_size", {"minibatch_size": 500}, "512 * 16 = 8192: try 512"),
        ("training.minibatch_size", {"minibatch_size": 10_000}, "512 * 16 = 8192: try 8192"),
        ("training.max_tokens_per_microbatch", {"max_tokens_per_microbatch": 0}, "at least 1"),
        ("training.max_shared_row_tokens", {"max_shared_row_tokens": -1}, "at least 0"),
        ("training.warmup_steps", {"warmup_steps": -1}, "at least 0"),
        ("training.warmup_steps", {"warmup_steps": float("nan")}, "must be a number"),
        ("training.warmup_steps", {"warmup_steps": "20"}, "must be a number"),
        ("training.lr", {"lr": -1.0}, "at least 0"),
        ("training.lr", {"lr": float("nan")}, "must be a number"),
        ("training.weight_decay", {"weight_decay": -0.1}, "at least 0"),
        ("training.adam_epsilon", {"adam_epsilon": -1.0}, "at least 0"),
        ("training.grad_clip", {"grad_clip": 0.0}, "null to switch it off"),
        ("training.grad_clip_by", {"grad_clip_by": "value"}, "global_norm"),
        ("training.num_epochs", {"num_epochs": 2}, "lower training.minibatch_size=512"),
        ("training.epsilon_low", {"epsilon_low": "0.2"}, "must be a number"),
        ("training.epsilon_high", {"epsilon_high": float("nan")}, "must be a number"),
        ("training.group_size", {"group_size": 2.5}, "must be a whole number"),
        ("training.group_size", {"group_size": "16"}, "must be a whole number"),
        ("training.prompts_per_step", {"prompts_per_step": None}, "must be a whole number"),
        ("debugging.seed", {"seed": -1}, "at least 0"),
        ("overlong.penalty", {"overlong_penalty": float("nan")}, "must be a number"),
        ("dynamic_sampling.max_rounds", {"max_rounds": 1.5}, "must be a whole number"),
        ("dynamic_sampling.max_rounds", {"max_rounds": 0}, "at least 1"),
        ("dynamic_sampling.max_oversampling", {"max_oversampling": 0.5}, "at least 1"),
        ("dynamic_sampling.on_shortfall", {"on_shortfall": "partial"}, "train_partial, raise"),
        ("overlong.buffer_tokens", {"overlong_buffer_tokens": -1}, "rollout.max_response_tokens=20480"),
        ("overlong.buffer_tokens", {"overlong_buffer_tokens": 30_000}, "rollout.max_response_tokens=20480"),
        ("overlong.penalty", {"overlong_penalty": -1.0}, "0 switches the punishment off"),
        ("evaluation.evaluation_num_prompts", {"evaluation_num_prompts": 0}, "at least 1"),
        ("evaluation.evaluation_samples_per_prompt", {"evaluation_samples_per_prompt": 0}, "at least 1"),
        ("evaluation.evaluation_temperature", {"evaluation_temperature": 0.0}, "positive"),
        ("evaluation.evaluation_top_p", {"evaluation_top_p": 2.0}, "in (0, 1]"),
        ("learners.num_learners", {"num_learners": 2}, "use 0 or 1"),
        ("evaluation.evaluation_num_env_runners", {"evaluation_num_env_runners": 1}, "the training EnvRunners"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_a_value_that_cannot_work_is_named_with_the_way_out(
    setting: str, attributes: dict[str, Any], way_out: str
) -> None:
    config = valid_config().update_from_dict(attributes)
    findings = [finding for finding in check_settings(config) if finding.startswith(setting)]
    assert len(findings) == 1
    value = next(iter(attributes.values()))
    assert re.match(rf"{re.escape(setting)}='?{re.escape(str(value))}'?[ :]", findings[0])
    assert way_out in findings[0]
    assert "\n" not in findings[0]
    with pytest.raises(ValueError, match=re.escape(findings[0])):
        config.validate()


def test_a_model_must_be_named() -> None:
    config = DAPOConfig().environment("rllib_dapo/Arithmetic-v0")
    assert list(check_settings(config)) == [
        "language_model.name is not set: give a model folder, a hub name, 'tiny' or 'smollm2-135m'"
    ]


def test_evaluation_parallel_to_training_is_refused() -> None:
    config = valid_config().update_from_dict({"evaluation_parallel_to_training": True})
    assert list(check_settings(config)) == [
        "evaluation.evaluation_parallel_to_training must be false: evaluation runs on the training EnvRunners"
    ]


def test_each_of_several_findings_is_told() -> None:
    config = valid_config().update_from_dict({"engine": "sglang", "group_size": 1, "epsilon_low": 2.0})
    settings = {finding.partition("=")[0] for finding in check_settings(config)}
    assert settings == {"rollout.engine", "training.group_size", "training.epsilon_low", "training.epsilon_high"}


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"num_threads": 1},
        {"num_threads": "2"},
        {"epsilon_high": 0.2},
        {"dual_clip": 10.0},
        {"minibatch_size": 8192},
        {"warmup_steps": 0.5},
        {"overlong_buffer_tokens": 0, "overlong_penalty": 0},
        {"overlong_buffer_tokens": 20480},
        {"max_oversampling": 1},
        {"top_p": 1.0, "evaluation_top_p": 0.01},
        {"num_learners": 1, "num_env_runners": 0},
    ],
    ids=str,
)
def test_a_valid_configuration_gives_no_finding(attributes: dict[str, Any]) -> None:
    config = valid_config().update_from_dict(attributes)
    assert list(check_settings(config)) == []
    config.validate()


def test_nothing_is_checked_before_search_spaces_are_resolved() -> None:
    space = tune.uniform(0.2, 0.4)
    config = valid_config().training(epsilon_high=space, lr=tune.loguniform(1e-7, 1e-5))
    assert config.epsilon_high is space


# Names


@pytest.mark.parametrize(
    ("name", "meant"), [("epsilon_hihg", "epsilon_high"), ("prompt_per_step", "prompts_per_step"), ("lrr", "lr")]
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


# Defaults


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
        "overlong_buffer_tokens": 4_096,
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
