"""What a configuration may hold, what is said of what it may not, and what it holds by default."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from rllib_dapo import DAPOConfig
from rllib_dapo.config.value_checks import check_settings

NEEDS_DEEPSPEED = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="DeepSpeed is not installed"
)


def valid_config() -> DAPOConfig:
    return DAPOConfig().environment("rllib_dapo/Arithmetic-v0").language_model("tiny")


@pytest.mark.parametrize(
    ("setting", "attributes", "way_out"),
    [
        ("language_model.name", {"model_name": "tinny"}, 'did you mean "tiny"'),
        (
            "language_model.dtype",
            {"model_dtype": "float16"},
            "one of bfloat16, float32, float64; did you mean",
        ),
        ("language_model.logprob_chunk_tokens", {"logprob_chunk_tokens": 0}, "at least 1"),
        ("language_model.dtype", {"model_dtype": "float64"}, "needs rollout.engine=transformers"),
        ("language_model.freeze_fraction", {"freeze_fraction": 1.0}, "in [0, 1)"),
        ("language_model.freeze_fraction", {"freeze_fraction": -0.1}, "in [0, 1)"),
        ("language_model.freeze_fraction", {"freeze_fraction": None}, "must be a number"),
        (
            "language_model.gradient_checkpointing",
            {"gradient_checkpointing": "yes"},
            "true or false",
        ),
        ("language_model.num_threads", {"num_threads": 0}, "at least 1"),
        ("language_model.num_threads", {"num_threads": "all"}, "a whole number or auto"),
        ("rollout.engine", {"engine": "vlm"}, "vllm, transformers; did you mean 'vllm'?"),
        ("rollout.max_prompt_tokens", {"max_prompt_tokens": 0}, "at least 1"),
        (
            "rollout.max_response_tokens",
            {"max_response_tokens": 0, "overlong_buffer_tokens": 0},
            "at least 1",
        ),
        ("rollout.max_concurrent_responses", {"max_concurrent_responses": 0}, "at least 1"),
        ("rollout.max_groups_in_flight", {"max_groups_in_flight": 0}, "at least 1"),
        ("rollout.stall_seconds", {"stall_seconds": 0.0}, "positive, or null"),
        ("training.stall_seconds", {"update_stall_seconds": -1.0}, "positive, or null"),
        ("rollout.temperature", {"temperature": 0.0}, "positive"),
        ("rollout.top_p", {"top_p": 0.0}, "in (0, 1]"),
        ("rollout.top_p", {"top_p": 1.5}, "in (0, 1]"),
        ("rollout.cpu_kv_cache_gib", {"cpu_kv_cache_gib": 0}, "positive"),
        ("training.epsilon_low", {"epsilon_low": 0.0}, "in (0, 1)"),
        ("training.epsilon_low", {"epsilon_low": 1.0, "epsilon_high": 1.0}, "in (0, 1)"),
        (
            "training.epsilon_high",
            {"epsilon_high": 0.1},
            "raise epsilon_high, or lower epsilon_low",
        ),
        ("training.dual_clip", {"dual_clip": 1.0}, "null to switch it off"),
        (
            "training.loss_aggregation",
            {"loss_aggregation": "token_maen"},
            "did you mean 'token_mean'?",
        ),
        (
            "training.old_logprobs",
            {"old_logprobs": "samplers"},
            "trainer, sampler; did you mean 'sampler'?",
        ),
        ("training.group_size", {"group_size": 1}, "at least 2: an advantage compares"),
        ("training.prompts_per_step", {"prompts_per_step": 0}, "at least 1"),
        ("training.prompts_per_step", {"prompts_per_step": -1}, "at least 1"),
        ("training.adam_betas", {"adam_betas": (0.9,)}, "two numbers"),
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
        (
            "training.lr_schedule",
            {"lr_schedule": "lineer"},
            "constant, linear, cosine; did you mean 'linear'?",
        ),
        (
            "training.lr_decay_updates",
            {"lr_decay_updates": 100},
            "does nothing with lr_schedule=constant",
        ),
        (
            "training.lr_decay_updates",
            {"lr_decay_updates": 0, "lr_schedule": "linear"},
            "at least 1",
        ),
        (
            "training.lr_decay_updates",
            {"lr_decay_updates": None, "lr_schedule": "cosine"},
            "must be given",
        ),
        (
            "training.lr_decay_updates",
            {"lr_decay_updates": 0.5, "lr_schedule": "linear"},
            "must be a whole number",
        ),
        ("training.lr_end_fraction", {"lr_end_fraction": 1.5}, "in [0, 1]"),
        (
            "training.ratio_level",
            {"ratio_level": "sequences"},
            "token, sequence; did you mean 'sequence'?",
        ),
        ("training.advantage_estimator", {"advantage_estimator": "gea"}, "did you mean 'gae'?"),
        ("training.entropy_coefficient", {"entropy_coefficient": "0.1"}, "must be a number"),
        ("training.entropy_mask_fraction", {"entropy_mask_fraction": 0.0}, "in (0, 1]"),
        ("training.entropy_mask_fraction", {"entropy_mask_fraction": 1.1}, "in (0, 1]"),
        ("training.token_mask", {"token_mask": "my_masks.critical"}, "package.module:function"),
        ("training.token_mask", {"token_mask": 3}, "text or a function"),
        ("training.gamma", {"gamma": 1.1}, "in [0, 1]"),
        ("kl.coefficient", {"kl_coefficient": -0.1}, "at least 0"),
        ("kl.estimator", {"kl_estimator": "k4"}, "one of k1, k2, k3"),
        (
            "kl.estimator",
            {"kl_estimator": "k1", "kl_coefficient": 0.1},
            "use k2 or k3, or kl.placement=reward",
        ),
        ("kl.placement", {"kl_placement": "rewards"}, "loss, reward; did you mean 'reward'?"),
        (
            "overlong.filtering",
            {"overlong_filtering": True, "kl_placement": "reward", "kl_coefficient": 0.1},
            "set overlong.truncated_in_baseline to false",
        ),
        ("importance_sampling.cap", {"importance_cap": 0.5}, "at least 1"),
        (
            "importance_sampling.cap",
            {"importance_cap": 2.0, "old_logprobs": "sampler"},
            "old_logprobs=trainer",
        ),
        (
            "importance_sampling.sequence_bounds",
            {"importance_sequence_bounds": (1.0, 2.0)},
            "such as [0.5, 2.0]",
        ),
        (
            "importance_sampling.sequence_bounds",
            {"importance_sequence_bounds": [0.5, 0.9]},
            "such as [0.5, 2.0]",
        ),
        (
            "importance_sampling.sequence_bounds",
            {"importance_sequence_bounds": 2.0},
            "two numbers",
        ),
        (
            "importance_sampling.sequence_bounds",
            {"importance_sequence_bounds": (0.5, 2.0), "old_logprobs": "sampler"},
            "contradicts training.old_logprobs=sampler",
        ),
        (
            "start_guard.limit",
            {"start_gap_limit": 0.0},
            "null to switch the guard off",
        ),
        (
            "start_guard.action",
            {"on_start_gap": "stop"},
            "one of raise, correct, warn",
        ),
        (
            "start_guard.action",
            {"on_start_gap": "correct", "old_logprobs": "sampler"},
            "contradicts training.old_logprobs=sampler",
        ),
        ("critic.gae_lambda", {"gae_lambda": 1.01}, "in [0, 1]"),
        ("critic.value_loss_coefficient", {"value_loss_coefficient": -1.0}, "at least 0"),
        (
            "critic.value_loss_coefficient",
            {"value_loss_coefficient": 0.0, "advantage_estimator": "gae"},
            "would never train the value model",
        ),
        ("critic.value_clip", {"value_clip": 0.0}, "null to switch it off"),
        ("critic.lr", {"critic_lr": -1e-4}, "at least 0"),
        ("critic.lr", {"critic_lr": 0.0, "advantage_estimator": "gae"}, "would never train"),
        ("critic.warmup", {"critic_warmup": -1}, "at least 0"),
        ("critic.warmup", {"critic_warmup": 0.5}, "whole number"),
        (
            "dynamic_sampling.enabled",
            {"dynamic_sampling_enabled": True, "group_size": 1, "advantage_estimator": "gae"},
            "set enabled to false, or raise group_size",
        ),
        ("overlong.filtering", {"overlong_filtering": 1}, "true or false"),
        ("overlong.truncated_in_baseline", {"truncated_in_baseline": None}, "true or false"),
        ("deepspeed.config", {"deepspeed_config": 3}, "settings, such as {name: value} or text"),
        pytest.param(
            "deepspeed.config",
            {"deepspeed_config": "nowhere.json"},
            "cannot be read",
            marks=NEEDS_DEEPSPEED,
        ),
        pytest.param(
            "learners.num_learners",
            {"num_learners": 0, "num_env_runners": 0, "deepspeed_config": {}},
            "set one of them to 1",
            marks=NEEDS_DEEPSPEED,
        ),
        ("training.epsilon_low", {"epsilon_low": "0.2"}, "must be a number"),
        ("training.epsilon_high", {"epsilon_high": float("nan")}, "must be a number"),
        ("training.group_size", {"group_size": 2.5}, "must be a whole number"),
        ("training.group_size", {"group_size": "16"}, "must be a whole number"),
        ("training.prompts_per_step", {"prompts_per_step": None}, "must be a whole number"),
        ("debugging.seed", {"seed": -1}, "at least 0"),
        ("overlong.penalty", {"overlong_penalty": float("nan")}, "must be a number"),
        ("dynamic_sampling.max_rounds", {"max_rounds": 1.5}, "must be a whole number"),
        ("dynamic_sampling.max_rounds", {"max_rounds": 0}, "at least 1"),
        ("dynamic_sampling.max_steps_without_signal", {"max_steps_without_signal": -1}, "least 0"),
        ("dynamic_sampling.prompt_memory", {"prompt_memory": "all"}, "plain, information, pools"),
        ("dynamic_sampling.max_oversampling", {"max_oversampling": 0.5}, "at least 1"),
        (
            "dynamic_sampling.on_shortfall",
            {"on_shortfall": "partial"},
            "keep_uninformative, reuse, raise",
        ),
        (
            "overlong.buffer_tokens",
            {"overlong_buffer_tokens": -1},
            "rollout.max_response_tokens=20480",
        ),
        (
            "overlong.buffer_tokens",
            {"overlong_buffer_tokens": 30_000},
            "rollout.max_response_tokens=20480",
        ),
        ("overlong.penalty", {"overlong_penalty": -1.0}, "0 switches the punishment off"),
        ("evaluation.evaluation_num_prompts", {"evaluation_num_prompts": 0}, "at least 1"),
        (
            "evaluation.evaluation_samples_per_prompt",
            {"evaluation_samples_per_prompt": 0},
            "at least 1",
        ),
        ("evaluation.evaluation_temperature", {"evaluation_temperature": -0.5}, "at least 0"),
        ("evaluation.evaluation_top_p", {"evaluation_top_p": 2.0}, "in (0, 1]"),
        (
            "evaluation.evaluation_num_env_runners",
            {"evaluation_num_env_runners": 1},
            "the training EnvRunners",
        ),
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
        "evaluation.evaluation_parallel_to_training must be false: evaluation runs on the "
        "training EnvRunners"
    ]


def test_each_of_several_findings_is_told() -> None:
    config = valid_config().update_from_dict(
        {"engine": "sglang", "group_size": 1, "epsilon_low": 2.0}
    )
    settings = {finding.partition("=")[0] for finding in check_settings(config)}
    assert settings == {
        "rollout.engine",
        "training.group_size",
        "training.epsilon_low",
        "training.epsilon_high",
    }


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"num_threads": 1},
        {"num_threads": 2},
        {"epsilon_high": 0.2},
        {"dual_clip": 10.0},
        {"minibatch_size": 8192},
        {"warmup_steps": 0.5},
        {"overlong_buffer_tokens": 0, "overlong_penalty": 0},
        {"overlong_buffer_tokens": 20480},
        {"max_oversampling": 1},
        {"top_p": 1.0, "evaluation_top_p": 0.01},
        {"num_learners": 1, "num_env_runners": 0},
        {"num_learners": 4},
        {"model_dtype": "float64", "engine": "transformers"},
        {"freeze_fraction": 0},
        {"lr_schedule": "linear", "lr_decay_updates": 1, "lr_end_fraction": 1},
        {"lr_schedule": "cosine", "lr_decay_updates": 1000, "lr_end_fraction": 0.1},
        {"ratio_level": "sequence", "advantage_estimator": "leave_one_out"},
        {"entropy_coefficient": -0.01, "entropy_mask_fraction": 1},
        {"token_mask": "my_package.masks:critical"},
        {"token_mask": len},
        {"kl_coefficient": 0.1, "kl_estimator": "k1", "kl_placement": "reward"},
        {"kl_estimator": "k1"},
        {"importance_cap": 1, "importance_sequence_bounds": [0.5, 2], "on_start_gap": "correct"},
        {"old_logprobs": "sampler", "start_gap_limit": None, "on_start_gap": "warn"},
        {
            "advantage_estimator": "gae",
            "group_size": 1,
            "dynamic_sampling_enabled": False,
            "value_clip": None,
        },
        {"advantage_estimator": "gae", "critic_lr": None, "critic_warmup": 5},
        {"critic_lr": 0.0, "critic_warmup": 5},  # without a critic of no effect
        pytest.param(
            {"deepspeed_config": {"zero_optimization": {"stage": 2}}}, marks=NEEDS_DEEPSPEED
        ),
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


def test_each_setting_that_contradicts_the_samplers_log_probabilities_is_named() -> None:
    config = valid_config().training(old_logprobs="sampler")
    config.importance_sampling(cap=2.0, sequence_bounds=(0.5, 2.0))
    config.start_guard(action="correct")
    assert [finding.partition("=")[0] for finding in check_settings(config)] == [
        "importance_sampling.cap",
        "importance_sampling.sequence_bounds",
        "start_guard.action",
    ]


@NEEDS_DEEPSPEED
def test_a_contradiction_in_a_deepspeed_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "zero.json"
    file.write_text(json.dumps({"train_batch_size": 99}))
    (finding,) = check_settings(valid_config().deepspeed(str(file)))
    assert "train_batch_size=99" in finding
    file.write_text(json.dumps({"train_batch_size": "auto"}))
    assert list(check_settings(valid_config().deepspeed(str(file)))) == []
