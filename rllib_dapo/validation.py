"""Checks of settings: each finding is one line that names the setting, its value and the way out."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from rllib_dapo.core import LOSS_AGGREGATIONS
from rllib_dapo.models import check_model_name
from rllib_dapo.rollout.engine import ENGINES

if TYPE_CHECKING:
    from rllib_dapo.config import DAPOConfig

DTYPES = ("float32", "bfloat16")
COUNTS = (
    "language_model.logprob_chunk_tokens",
    "rollout.max_prompt_tokens",
    "rollout.max_response_tokens",
    "rollout.max_concurrent_responses",
    "rollout.max_groups_in_flight",
    "training.prompts_per_step",
    "training.group_size",
    "training.minibatch_size",
    "training.max_tokens_per_microbatch",
    "training.max_shared_row_tokens",
    "dynamic_sampling.max_rounds",
    "overlong.buffer_tokens",
    "evaluation.evaluation_num_prompts",
    "evaluation.evaluation_samples_per_prompt",
    "debugging.seed",
)
NUMBERS = (
    "rollout.temperature",
    "rollout.top_p",
    "rollout.cpu_kv_cache_gib",
    "training.lr",
    "training.warmup_steps",
    "training.weight_decay",
    "training.adam_epsilon",
    "training.grad_clip",
    "training.epsilon_low",
    "training.epsilon_high",
    "training.dual_clip",
    "dynamic_sampling.max_oversampling",
    "overlong.penalty",
    "evaluation.evaluation_temperature",
    "evaluation.evaluation_top_p",
)
OPTIONAL = ("training.dual_clip", "training.grad_clip", "debugging.seed")
# Where an attribute is not called as its setting.
ATTRIBUTES = {"overlong.buffer_tokens": "overlong_buffer_tokens", "overlong.penalty": "overlong_penalty"}
# Keys that RLlib's `update_from_dict` understands though `AlgorithmConfig.to_dict` writes them not.
RLLIB_SPECIAL_KEYS = frozenset({"__trial_info__", "multiagent", "optimizer", "exploration_config", "class"})


def suggest(name: str, known: Any) -> str:
    """`"; did you mean 'x'?"` where something known is near, else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_known_settings(config: DAPOConfig, settings: Mapping[str, Any]) -> None:
    """Refuses names that RLlib would set without a word.

    Args:
        config: Whose attributes are known.
        settings: By attribute name.

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
        config: To be checked; nothing is loaded.

    Yields:
        One line for each finding.
    """
    kinds = list(_check_kinds(config))
    if kinds:  # what follows compares numbers
        yield from kinds
        return
    yield from _check_model(config)
    yield from _check_rollout(config)
    yield from _check_training(config)
    yield from _check_sampling(config)
    yield from _check_placement(config)


def _check_kinds(config: DAPOConfig) -> Iterator[str]:
    """Text for a number, a fraction for a count, NaN: said by name, before a comparison trips over it."""
    for whole, settings in ((True, COUNTS), (False, NUMBERS)):
        for setting in settings:
            value = getattr(config, ATTRIBUTES.get(setting, setting.partition(".")[2]))
            if value is None and setting in OPTIONAL:
                continue
            kind = Integral if whole else Real
            if not isinstance(value, kind) or isinstance(value, bool) or not math.isfinite(value):
                yield f"{setting}={value!r} must be a {'whole ' if whole else ''}number"


def _check_model(config: DAPOConfig) -> Iterator[str]:
    if not config.model_name:
        yield "language_model.name is not set: give a model folder, a hub name, 'tiny' or 'smollm2-135m'"
    else:
        try:
            check_model_name(config.model_name)
        except ValueError as error:
            yield str(error)
    yield from _one_of("language_model.dtype", config.model_dtype, DTYPES)
    yield from _at_least("language_model.logprob_chunk_tokens", config.logprob_chunk_tokens, 1)
    threads = config.num_threads
    if threads != "auto" and not (str(threads).isdecimal() and int(threads) >= 1):
        yield f"language_model.num_threads={threads!r} must be 'auto' or at least 1"


def _check_rollout(config: DAPOConfig) -> Iterator[str]:
    yield from _one_of("rollout.engine", config.engine, ENGINES)
    for name in ("max_prompt_tokens", "max_response_tokens", "max_concurrent_responses", "max_groups_in_flight"):
        yield from _at_least(f"rollout.{name}", getattr(config, name), 1)
    for section, name in (("rollout", "temperature"), ("evaluation", "evaluation_temperature")):
        if not getattr(config, name) > 0:
            yield f"{section}.{name}={getattr(config, name)} must be positive: at 0 all responses of a group are equal"
    for section, name in (("rollout", "top_p"), ("evaluation", "evaluation_top_p")):
        if not 0 < getattr(config, name) <= 1:
            yield f"{section}.{name}={getattr(config, name)} must lie in (0, 1]"
    if not config.cpu_kv_cache_gib > 0:
        yield f"rollout.cpu_kv_cache_gib={config.cpu_kv_cache_gib} must be positive"


def _check_training(config: DAPOConfig) -> Iterator[str]:
    if not 0 < config.epsilon_low < 1:
        yield f"training.epsilon_low={config.epsilon_low} must lie in (0, 1): ratios are clipped to 1 - epsilon_low"
    if config.epsilon_high < config.epsilon_low:
        yield (
            f"training.epsilon_high={config.epsilon_high} must not be under epsilon_low={config.epsilon_low}: "
            "raise epsilon_high, or lower epsilon_low"
        )
    if config.dual_clip is not None and not config.dual_clip > 1:
        yield f"training.dual_clip={config.dual_clip} must be over 1, or null to switch it off"
    yield from _one_of("training.loss_aggregation", config.loss_aggregation, LOSS_AGGREGATIONS)
    yield from _one_of("training.old_logprobs", config.old_logprobs, ("trainer", "sampler"))
    yield from _at_least("training.group_size", config.group_size, 2, "an advantage compares responses of one group")
    yield from _at_least("training.prompts_per_step", config.prompts_per_step, 1)
    yield from _at_least("training.minibatch_size", config.minibatch_size or 0, 1)
    yield from _at_least("training.max_tokens_per_microbatch", config.max_tokens_per_microbatch, 1)
    yield from _at_least("training.max_shared_row_tokens", config.max_shared_row_tokens, 0)
    betas = config.adam_betas
    if not (isinstance(betas, list | tuple) and len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
        yield f"training.adam_betas={betas!r} must be two numbers in [0, 1), such as [0.9, 0.999]"
    for name in ("lr", "warmup_steps", "weight_decay", "adam_epsilon"):
        yield from _at_least(f"training.{name}", getattr(config, name), 0)
    if config.grad_clip is not None and not config.grad_clip > 0:
        yield f"training.grad_clip={config.grad_clip} must be positive, or null to switch it off"
    if config.grad_clip_by != "global_norm":
        yield f"training.grad_clip_by={config.grad_clip_by!r} must be global_norm"
    if config.num_epochs != 1:
        yield (
            f"training.num_epochs={config.num_epochs} must be 1: for more updates per rollout, lower "
            f"training.minibatch_size={config.minibatch_size}"
        )
    total, size = config.train_batch_responses, config.minibatch_size
    if size and total > 0 and total % size:
        fits = [d for d in range(1, total + 1) if total % d == 0]
        nearest = min(fits, key=lambda d: abs(d - size))
        yield (
            f"training.minibatch_size={size} does not divide prompts_per_step * group_size = "
            f"{config.prompts_per_step} * {config.group_size} = {total}: try {nearest}"
        )


def _check_sampling(config: DAPOConfig) -> Iterator[str]:
    yield from _at_least("dynamic_sampling.max_rounds", config.max_rounds, 1)
    yield from _at_least("dynamic_sampling.max_oversampling", config.max_oversampling, 1)
    yield from _one_of("dynamic_sampling.on_shortfall", config.on_shortfall, ("train_partial", "raise"))
    if not 0 <= config.overlong_buffer_tokens <= config.max_response_tokens:
        yield (
            f"overlong.buffer_tokens={config.overlong_buffer_tokens} must lie between 0 and "
            f"rollout.max_response_tokens={config.max_response_tokens}"
        )
    if config.overlong_penalty < 0:
        yield f"overlong.penalty={config.overlong_penalty} must not be negative; 0 switches the punishment off"
    yield from _at_least("evaluation.evaluation_num_prompts", config.evaluation_num_prompts, 1)
    yield from _at_least("evaluation.evaluation_samples_per_prompt", config.evaluation_samples_per_prompt, 1)


def _check_placement(config: DAPOConfig) -> Iterator[str]:
    yield from _at_least("debugging.seed", config.seed or 0, 0)
    if config.num_learners > 1:
        yield f"learners.num_learners={config.num_learners}: more than one Learner is not supported yet; use 0 or 1"
    if config.evaluation_num_env_runners:
        yield (
            f"evaluation.evaluation_num_env_runners={config.evaluation_num_env_runners} must be 0: evaluation runs on "
            "the training EnvRunners, whose engines are already there"
        )
    if config.evaluation_parallel_to_training:
        yield "evaluation.evaluation_parallel_to_training must be false: evaluation runs on the training EnvRunners"


def _one_of(setting: str, value: Any, allowed: tuple[str, ...]) -> Iterator[str]:
    if value not in allowed:
        yield f"{setting}={value!r} must be one of {', '.join(allowed)}{suggest(str(value), allowed)}"


def _at_least(setting: str, value: float, least: float, why: str = "") -> Iterator[str]:
    if value < least:
        yield f"{setting}={value} must be at least {least}{': ' + why if why else ''}"
