"""Checks of `language_model.lora`, alone and together with other settings."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rllib_dapo.models.lora_settings import SETTING, LoraSettings, read_lora_settings

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# Arguments of `vllm.LLM` that follow from the setting.
_ENGINE_KWARGS = (
    "enable_lora",
    "max_lora_rank",
    "max_loras",
    "max_cpu_loras",
    "lora_dtype",
    "lora_target_modules",
    "fully_sharded_loras",
)


def lora_settings(config: DAPOConfig) -> LoraSettings | None:
    """The adapter that is trained; None where the model itself is.

    Args:
        config: Valid configuration without search spaces.
    """
    return None if config.lora is None else read_lora_settings(config.lora)


def check_lora(config: DAPOConfig) -> Iterator[str]:
    """Findings on the adapter's shape, and on settings that contradict it.

    Args:
        config: Configuration whose values are of their kinds.

    Yields:
        One line for each finding.
    """
    for name in _ENGINE_KWARGS if config.engine == "vllm" else ():
        if name in config.engine_kwargs:
            yield f"rollout.engine_kwargs.{name} is set by {SETTING}: use that"
    if config.lora is None:
        return
    if importlib.util.find_spec("peft") is None:
        yield (
            f"{SETTING} needs peft: install it with pip install -e '.[lora]' in a checkout of this "
            "package, or set it to null"
        )
    try:
        read_lora_settings(config.lora)
    except ValueError as error:
        yield str(error)

    if config.freeze_fraction > 0:
        yield (
            f"language_model.freeze_fraction={config.freeze_fraction} and {SETTING} exclude each "
            "other, as an adapter leaves the whole model frozen: set it to 0"
        )
    if config.weight_transfer not in ("auto", "object_store"):
        yield (
            f"weights.transfer={config.weight_transfer!r} is for whole weights, and {SETTING} "
            "sends an adapter of some megabytes through Ray's object store: set it to auto"
        )
    for name in ("quantization", "load_format"):
        if name in config.engine_kwargs:
            yield (
                f"rollout.engine_kwargs.{name}={config.engine_kwargs[name]!r} and {SETTING} have "
                "not been tried together: leave one of them out"
            )
