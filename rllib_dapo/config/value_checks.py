"""Checks of settings: each finding is one line with the setting, its value and the way out."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rllib_dapo.config.colocation_checks import check_colocation
from rllib_dapo.config.engine_resources import check_engine
from rllib_dapo.config.engine_sharing import check_sharing
from rllib_dapo.config.inherited_checks import (
    check_inherited_kinds,
    refused_settings,
    warned_settings,
)
from rllib_dapo.config.lora_checks import check_lora
from rllib_dapo.config.objective_checks import (
    check_objective,
    idle_clip_warning,
    idle_kl_ratio_warning,
)
from rllib_dapo.config.sampling_checks import check_sampling
from rllib_dapo.config.setting import Setting, own_settings
from rllib_dapo.config.staleness_checks import check_staleness
from rllib_dapo.config.value_kinds import choices, misfit
from rllib_dapo.config.weight_checks import check_weights
from rllib_dapo.findings import at_least, suggest, within
from rllib_dapo.models import check_model_name
from rllib_dapo.models.template_settings import defaults, read_template

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# Keys that RLlib's `update_from_dict` understands, though `to_dict` does not write them.
RLLIB_SPECIAL_KEYS = frozenset(
    {"__trial_info__", "multiagent", "optimizer", "exploration_config", "class"}
)


def check_known_settings(config: DAPOConfig, settings: Mapping[str, Any]) -> None:
    """Refuses names that RLlib would set without saying a word.

    Args:
        config: Configuration whose attributes are the known names.
        settings: Values by attribute name.

    Raises:
        ValueError: For the first unknown name.
    """
    known = RLLIB_SPECIAL_KEYS | set(config.to_dict())
    for name in settings:
        if name in known or name.startswith("_") or hasattr(config, name):
            continue
        raise ValueError(f"unknown setting {name!r}{suggest(name, vars(config))}")


def check_settings(config: DAPOConfig) -> Iterator[str]:
    """Findings on the values of a configuration whose search spaces are resolved.

    Args:
        config: Configuration to check; nothing is loaded.

    Yields:
        One line for each finding.
    """
    yield from _check_choices(config)
    kinds = [*_check_kinds(config), *check_inherited_kinds(config)]
    if kinds:  # the checks that follow compare numbers
        yield from kinds
        return

    yield from refused_settings(config)
    yield from _check_model(config)
    yield from _check_rollout(config)
    yield from check_sampling(config)
    yield from check_lora(config)
    yield from check_engine(config)
    yield from check_weights(config)
    yield from check_colocation(config)
    yield from check_sharing(config)
    yield from check_staleness(config)
    yield from check_objective(config)
    yield from _check_update(config)
    yield from _check_sampling(config)
    yield from _check_placement(config)
    yield from _check_optimizer(config)
    yield from _check_deepspeed(config)


def settings_warnings(config: DAPOConfig) -> list[str]:
    """What a user should know of settings with which a run can start, each in one line.

    Args:
        config: Valid configuration without search spaces.
    """
    told = (
        idle_clip_warning(config),
        idle_kl_ratio_warning(config),
        _equal_responses_warning(config),
    )
    return [*filter(None, told), *warned_settings(config)]


def _check_choices(config: DAPOConfig) -> Iterator[str]:
    """Findings on settings that are one of a few words."""
    for setting in own_settings(type(config)).values():
        if choices(setting.annotation):
            yield from _check_kind(config, setting)


def _check_kinds(config: DAPOConfig) -> Iterator[str]:
    """Findings on text for a number, a fraction for a count, NaN."""
    for setting in own_settings(type(config)).values():
        is_unset_name = setting.dotted == "language_model.name" and not config.model_name
        if not choices(setting.annotation) and not is_unset_name:
            yield from _check_kind(config, setting)


def _check_kind(config: DAPOConfig, setting: Setting) -> Iterator[str]:
    value = getattr(config, setting.attribute)
    wanted = misfit(value, setting.annotation)
    if wanted:
        yield f"{setting.dotted}={value!r} must be {wanted}"


def _check_model(config: DAPOConfig) -> Iterator[str]:
    if not config.model_name:
        yield (
            "language_model.name is not set: give a model folder, a hub name, 'tiny' or "
            "'smollm2-135m'"
        )
    else:
        try:
            check_model_name(config.model_name)
        except ValueError as error:
            yield str(error)

    try:
        if config.chat_template:
            read_template(config.chat_template)
        defaults(config.chat_template_kwargs)
    except ValueError as error:
        yield str(error)

    if config.model_dtype == "float64" and config.engine != "transformers":
        yield (
            "language_model.dtype='float64' needs rollout.engine=transformers, and that is "
            f"{config.engine!r}"
        )
    yield from at_least("language_model.logprob_chunk_tokens", config.logprob_chunk_tokens, 1)
    yield from within(
        "language_model.freeze_fraction", config.freeze_fraction, "[0, 1)", "of the decoder layers"
    )
    yield from _check_activations(config)
    if config.num_threads != "auto":
        yield from at_least("language_model.num_threads", config.num_threads, 1)


def _check_activations(config: DAPOConfig) -> Iterator[str]:
    layers = config.gradient_checkpointing
    if not isinstance(layers, bool):
        yield from at_least("language_model.gradient_checkpointing", layers, 1)
    if config.activation_offload and not config.num_gpus_per_learner:
        yield (
            f"language_model.activation_offload={config.activation_offload} moves activations out "
            "of a GPU, and Learners have none: set learners.num_gpus_per_learner, or it to false"
        )


def _check_rollout(config: DAPOConfig) -> Iterator[str]:
    for name in (
        "max_prompt_tokens",
        "max_response_tokens",
        "max_concurrent_responses",
        "max_groups_in_flight",
        "max_turns",
        "num_env_threads",
    ):
        yield from at_least(f"rollout.{name}", getattr(config, name), 1)

    for name, seconds in (
        ("rollout.stall_seconds", config.stall_seconds),
        ("training.stall_seconds", config.update_stall_seconds),
    ):
        if seconds is not None and not seconds > 0:
            yield f"{name}={seconds} must be positive, or null"
    if not config.temperature > 0:
        yield (
            f"rollout.temperature={config.temperature} must be positive: at 0 all responses are "
            "equal"
        )
    yield from at_least("evaluation.evaluation_temperature", config.evaluation_temperature, 0)
    for section, name in (("rollout", "top_p"), ("evaluation", "evaluation_top_p")):
        yield from within(f"{section}.{name}", getattr(config, name), "(0, 1]")

    if not config.cpu_kv_cache_gib > 0:
        yield f"rollout.cpu_kv_cache_gib={config.cpu_kv_cache_gib} must be positive"


def _equal_responses_warning(config: DAPOConfig) -> str | None:
    asked = config.evaluation_samples_per_prompt
    evaluates = config.evaluation_interval or config.evaluate_before_training
    if not evaluates or asked == config.evaluation_responses_per_prompt:
        return None
    return (
        f"evaluation.evaluation_temperature=0 makes all responses to a problem equal, so each is "
        f"asked once instead of evaluation_samples_per_prompt={asked} times, and figures are avg@1"
    )


def _check_update(config: DAPOConfig) -> Iterator[str]:
    for name in ("prompts_per_step", "minibatch_size", "max_tokens_per_microbatch"):
        yield from at_least(f"training.{name}", getattr(config, name), 1)
    for name in ("lr", "warmup_steps", "weight_decay", "adam_epsilon"):
        yield from at_least(f"training.{name}", getattr(config, name), 0)
    if config.max_shared_row_tokens != "auto":
        yield from at_least("training.max_shared_row_tokens", config.max_shared_row_tokens, 0)

    betas = config.adam_betas
    if not all(0 <= beta < 1 for beta in betas):
        yield f"training.adam_betas={betas!r} must be two numbers in [0, 1), such as [0.9, 0.999]"
    if config.grad_clip is not None and not config.grad_clip > 0:
        yield f"training.grad_clip={config.grad_clip} must be positive, or null to switch it off"
    if config.max_skipped_updates is not None:
        yield from at_least("training.max_skipped_updates", config.max_skipped_updates, 0)
    if config.grad_clip_by != "global_norm":
        yield f"training.grad_clip_by={config.grad_clip_by!r} must be global_norm"
    if config.num_epochs != 1:
        yield (
            f"training.num_epochs={config.num_epochs} must be 1: for more updates per rollout, "
            f"lower training.minibatch_size={config.minibatch_size}"
        )

    total, size = config.train_batch_responses, config.minibatch_size
    if size > 0 and total > 0 and total % size:
        divisors = [d for d in range(1, total + 1) if total % d == 0]
        nearest = min(divisors, key=lambda d: abs(d - size))
        yield (
            f"training.minibatch_size={size} does not divide prompts_per_step * group_size = "
            f"{config.prompts_per_step} * {config.group_size} = {total}: try {nearest}"
        )


def _check_sampling(config: DAPOConfig) -> Iterator[str]:
    yield from at_least("dynamic_sampling.max_rounds", config.max_rounds, 1)
    if config.max_rounds_without_verdict is not None:
        limit = config.max_rounds_without_verdict
        yield from at_least("dynamic_sampling.max_rounds_without_verdict", limit, 0)
    if config.max_steps_without_signal is not None:
        limit = config.max_steps_without_signal
        yield from at_least("dynamic_sampling.max_steps_without_signal", limit, 0)
    yield from at_least("dynamic_sampling.max_oversampling", config.max_oversampling, 1)
    if config.prompt_memory is not None and not config.dynamic_sampling_enabled:
        yield (
            f"dynamic_sampling.prompt_memory={config.prompt_memory} skips prompts that dynamic "
            "sampling would drop, and dynamic_sampling.enabled is false: set one of them"
        )

    buffer = config.overlong_buffer_tokens
    if buffer is not None and not 0 <= buffer <= config.max_response_tokens:
        yield (
            f"overlong.buffer_tokens={buffer} must lie between 0 and "
            f"rollout.max_response_tokens={config.max_response_tokens}, or be null"
        )
    if config.overlong_penalty < 0:
        yield (
            f"overlong.penalty={config.overlong_penalty} must not be negative; 0 switches the "
            "punishment off"
        )

    for name in ("evaluation_num_prompts", "evaluation_samples_per_prompt"):
        yield from at_least(f"evaluation.{name}", getattr(config, name), 1)
    yield from at_least("reporting.sample_table_interval", config.sample_table_interval, 0)
    for name in ("sample_table_prompts", "sample_table_responses"):
        yield from at_least(f"reporting.{name}", getattr(config, name), 1)


def _check_placement(config: DAPOConfig) -> Iterator[str]:
    yield from at_least("debugging.seed", config.seed or 0, 0)
    if config.evaluation_num_env_runners:
        yield (
            f"evaluation.evaluation_num_env_runners={config.evaluation_num_env_runners} must be 0: "
            "evaluation runs on the training EnvRunners, whose engines are already there"
        )
    if config.evaluation_parallel_to_training:
        yield (
            "evaluation.evaluation_parallel_to_training must be false: evaluation runs on the "
            "training EnvRunners"
        )


def _check_optimizer(config: DAPOConfig) -> Iterator[str]:
    is_set = f"training.optimizer={config.optimizer_name}"
    if config.optimizer_name == "adamw_8bit":
        if importlib.util.find_spec("bitsandbytes") is None:
            yield (
                f"{is_set} is bitsandbytes', which is not installed: pip install "
                "-e '.[adamw-8bit]' in a checkout of this package, or set it to adamw"
            )
        if config.model_dtype == "float64":
            yield (
                f"{is_set} steps in float32: set language_model.dtype=float64 to float32 or "
                "bfloat16, or the optimizer to adamw"
            )

    if config.optimizer_name == "deepspeed_cpu_adamw" and config.deepspeed_config is None:
        yield (
            f"{is_set} is DeepSpeed's: set deepspeed.config, such as "
            "{zero_optimization: {stage: 2}}, or the optimizer to adamw"
        )


def _check_deepspeed(config: DAPOConfig) -> Iterator[str]:
    if config.deepspeed_config is None:
        return
    if importlib.util.find_spec("deepspeed") is None:
        yield (
            "deepspeed.config is set, but DeepSpeed is not installed: pip install "
            "--no-build-isolation -e '.[deepspeed]' in a checkout of this package"
        )
        return

    has_engine = config.num_env_runners == 0 and not config.samples_elsewhere
    if config.num_learners == 0 and has_engine and config.engine == "vllm":
        yield (
            "learners.num_learners=0 and env_runners.num_env_runners=0 put DeepSpeed and vLLM into "
            "one process, where each makes torch's process group its own: set one of them to 1"
        )

    from rllib_dapo.learner.deepspeed_config import resolve_deepspeed_config

    try:
        resolve_deepspeed_config(config)
    except ValueError as error:
        yield str(error)
