"""Of what kind each of our own settings is, and which attribute of `DAPOConfig` holds it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, get_args

from rllib_dapo.core import ADVANTAGE_ESTIMATORS, KL_ESTIMATORS, LOSS_AGGREGATIONS, RATIO_LEVELS
from rllib_dapo.findings import one_of
from rllib_dapo.learner.schedule import LR_SCHEDULES
from rllib_dapo.rollout.engine import ENGINES

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

KLPlacement = Literal["loss", "reward"]
OnStartGap = Literal["raise", "correct", "warn"]

FLAGS = (
    "language_model.trust_remote_code",
    "language_model.gradient_checkpointing",
    "rollout.record_groups",
    "training.normalize_advantages_by_std",
    "dynamic_sampling.enabled",
    "overlong.filtering",
    "overlong.truncated_in_baseline",
    "evaluation.evaluate_before_training",
)
COUNTS = (
    "language_model.logprob_chunk_tokens",
    "rollout.max_prompt_tokens",
    "rollout.max_response_tokens",
    "rollout.max_concurrent_responses",
    "rollout.max_groups_in_flight",
    "rollout.max_turns",
    "rollout.num_env_threads",
    "training.prompts_per_step",
    "training.group_size",
    "training.minibatch_size",
    "training.lr_decay_updates",
    "training.max_tokens_per_microbatch",
    "training.max_shared_row_tokens",
    "dynamic_sampling.max_rounds",
    "overlong.buffer_tokens",
    "evaluation.evaluation_num_prompts",
    "evaluation.evaluation_samples_per_prompt",
    "reporting.sample_table_interval",
    "reporting.sample_table_prompts",
    "reporting.sample_table_responses",
    "debugging.seed",
)
NUMBERS = (
    "language_model.freeze_fraction",
    "rollout.temperature",
    "rollout.top_p",
    "rollout.cpu_kv_cache_gib",
    "training.lr",
    "training.gamma",
    "training.warmup_steps",
    "training.lr_end_fraction",
    "training.weight_decay",
    "training.adam_epsilon",
    "training.grad_clip",
    "training.epsilon_low",
    "training.epsilon_high",
    "training.dual_clip",
    "training.entropy_coefficient",
    "training.entropy_mask_fraction",
    "kl.coefficient",
    "importance_sampling.cap",
    "importance_sampling.start_gap_limit",
    "critic.gae_lambda",
    "critic.value_loss_coefficient",
    "critic.value_clip",
    "dynamic_sampling.max_oversampling",
    "overlong.penalty",
    "evaluation.evaluation_temperature",
    "evaluation.evaluation_top_p",
)
CHOICES: Mapping[str, tuple[str, ...]] = {
    "language_model.dtype": ("float32", "bfloat16", "float64"),
    "rollout.engine": ENGINES,
    "training.loss_aggregation": LOSS_AGGREGATIONS,
    "training.old_logprobs": ("trainer", "sampler"),
    "training.ratio_level": RATIO_LEVELS,
    "training.advantage_estimator": ADVANTAGE_ESTIMATORS,
    "training.lr_schedule": LR_SCHEDULES,
    "kl.estimator": KL_ESTIMATORS,
    "kl.placement": get_args(KLPlacement),
    "importance_sampling.on_start_gap": get_args(OnStartGap),
    "dynamic_sampling.on_shortfall": ("train_partial", "raise"),
}
# Settings that None switches off.
OPTIONAL = (
    "training.dual_clip",
    "training.grad_clip",
    "training.entropy_mask_fraction",
    "training.token_mask",
    "training.lr_decay_updates",
    "importance_sampling.cap",
    "importance_sampling.sequence_bounds",
    "importance_sampling.start_gap_limit",
    "critic.value_clip",
    "deepspeed.config",
    "debugging.seed",
)
# Where an attribute is not called as its setting: RLlib has one namespace for all of them.
ATTRIBUTES: Mapping[str, str] = {
    "language_model.name": "model_name",
    "language_model.dtype": "model_dtype",
    "dynamic_sampling.enabled": "dynamic_sampling_enabled",
    "overlong.buffer_tokens": "overlong_buffer_tokens",
    "overlong.penalty": "overlong_penalty",
    "overlong.filtering": "overlong_filtering",
    "kl.coefficient": "kl_coefficient",
    "kl.estimator": "kl_estimator",
    "kl.placement": "kl_placement",
    "importance_sampling.cap": "importance_cap",
    "importance_sampling.sequence_bounds": "importance_sequence_bounds",
    "deepspeed.config": "deepspeed_config",
}


def attribute_of(setting: str) -> str:
    """The attribute of `DAPOConfig` that holds a setting `section.name`."""
    return ATTRIBUTES.get(setting, setting.partition(".")[2])


def check_kinds(config: DAPOConfig) -> Iterator[str]:
    """Findings on text for a number, a fraction for a count, NaN: before a comparison trips over them.

    Args:
        config: Its search spaces are resolved.

    Yields:
        One line for each finding.
    """
    for settings, fits, wanted in (
        (FLAGS, _is_flag, "true or false"),
        (COUNTS, _is_count, "a whole number"),
        (NUMBERS, _is_number, "a number"),
    ):
        for setting in settings:
            value = getattr(config, attribute_of(setting))
            if not fits(value) and not (value is None and setting in OPTIONAL):
                yield f"{setting}={value!r} must be {wanted}"


def check_choices(config: DAPOConfig) -> Iterator[str]:
    """Findings on settings whose value is one of a few words.

    Args:
        config: Its search spaces are resolved.

    Yields:
        One line for each finding.
    """
    for setting, allowed in CHOICES.items():
        yield from one_of(setting, getattr(config, attribute_of(setting)), allowed)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
