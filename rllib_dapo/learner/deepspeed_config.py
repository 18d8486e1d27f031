"""A user's DeepSpeed configuration and DAPO's own made into one.

DeepSpeed is told nothing twice: what `DAPOConfig` says already is filled in, and what contradicts
it is refused in one line. DeepSpeed itself is not needed for that.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

AUTO = "auto"
ADAM_TYPES = ("Adam", "AdamW")

# Sections of DeepSpeed that would do what DAPO does already, and the setting that says it here.
TAKEN = {
    "scheduler": "training.lr_schedule and training.warmup_steps",
    "fp16": "language_model.dtype (float32 or bfloat16)",
    "amp": "language_model.dtype",
    "torch_autocast": "language_model.dtype",
    "data_efficiency": "training.minibatch_size",
    "activation_checkpointing": "language_model.gradient_checkpointing",
}


def zero_stage(deepspeed_config: dict[str, Any]) -> int:
    """The ZeRO stage that a configuration asks for; 0 if it says nothing."""
    return int(deepspeed_config.get("zero_optimization", {}).get("stage", 0))


def read_deepspeed_config(path: str) -> dict[str, Any]:
    """Reads a JSON file.

    Args:
        path: Path of the file; `~` is the home folder.

    Raises:
        ValueError: If it cannot be read, or is not a JSON object; one line.
    """
    file = Path(path).expanduser()
    try:
        settings = json.loads(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"deepspeed.config={str(file)!r} cannot be read: {getattr(error, 'strerror', error)}"
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(f"deepspeed.config={str(file)!r} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"deepspeed.config={str(file)!r} must hold a JSON object")
    return settings


def resolve_deepspeed_config(config: DAPOConfig) -> dict[str, Any]:
    """Fills in from `DAPOConfig` what a configuration leaves open, by absence or as "auto".

    Args:
        config: The algorithm's configuration, with `deepspeed_config`: a dict, or the path of a
            JSON file.

    Returns:
        A configuration for `deepspeed.initialize`.

    Raises:
        ValueError: If it contradicts another setting; one line with both names and values.
    """
    source = config.deepspeed_config
    settings = (
        read_deepspeed_config(source) if isinstance(source, str) else copy.deepcopy(source or {})
    )

    for section, instead in TAKEN.items():
        asked = settings.pop(section, {"enabled": False})
        if not isinstance(asked, dict) or asked.get("enabled", True) not in (AUTO, False):
            raise ValueError(
                f"deepspeed.config: {section} is set, but {instead} says that here: "
                f"take {section} out"
            )

    stage = zero_stage(settings)
    if stage not in range(4):
        raise ValueError(f"deepspeed.config: zero_optimization.stage={stage} must be 0, 1, 2 or 3")

    # The number of micro-batches differs from step to step, so DeepSpeed is to count none of them.
    learners = max(1, config.num_learners)
    _settle(
        settings,
        "train_micro_batch_size_per_gpu",
        1,
        "training.max_tokens_per_microbatch, which bounds a micro-batch",
    )
    _settle(
        settings,
        "gradient_accumulation_steps",
        1,
        "training.minibatch_size, which makes an optimizer step",
    )
    _settle(
        settings,
        "train_batch_size",
        learners,
        "training.minibatch_size, which makes an optimizer step",
    )

    clip = config.grad_clip or 0.0
    _settle(settings, "gradient_clipping", clip, f"training.grad_clip={config.grad_clip}")
    _settle_precision(settings, config, stage)
    _settle_optimizer(settings, config, stage)

    if stage == 0:
        # Without ZeRO, DeepSpeed clips but does not return the norm; the Learner does both.
        settings["gradient_clipping"] = 0.0
    else:
        # DeepSpeed's own accumulation is off: the number of micro-batches differs from step to
        # step, so the Learner says when a step is due.
        _settle(
            settings,
            "managed_gradient_accumulation",
            False,
            "the Learner, which says when a step is due",
        )
    settings.setdefault("steps_per_print", 2**62)
    return settings


def frozen_config(settings: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a model beside the trained one, which no optimizer moves.

    Args:
        settings: What `resolve_deepspeed_config` returned.
    """
    settings = copy.deepcopy(settings)
    settings.pop("optimizer", None)
    settings.get("zero_optimization", {}).pop("offload_optimizer", None)
    return settings


def _settle(settings: dict[str, Any], name: str, value: Any, because: str) -> None:
    """Sets a value that is left open, and refuses another one."""
    asked = settings.get(name, AUTO)
    if asked not in (AUTO, value):
        raise ValueError(
            f'deepspeed.config: {name}={asked} contradicts {because}: set it to "auto" or {value}'
        )
    settings[name] = value


def _settle_precision(settings: dict[str, Any], config: DAPOConfig, stage: int) -> None:
    """bfloat16 under ZeRO means bfloat16 weights, float32 master weights and float32 accumulation.

    That is what DeepSpeed shards. Without ZeRO the module's own autocast computes in bfloat16, on
    float32 weights, as under DDP. The two round in different places: after five updates of a small
    model their weights differ by 3.7e-3 of their norm, where the updates move them by 3.6e-2.
    """
    half = config.model_dtype == "bfloat16" and stage > 0
    section = settings.setdefault("bf16", {})
    asked = section.get("enabled", AUTO)
    if asked not in (AUTO, half):
        way_out = (
            "use stage 1 or higher"
            if stage == 0 and asked
            else 'set it to "auto", or change the dtype'
        )
        raise ValueError(
            f"deepspeed.config: bf16.enabled={str(asked).lower()} contradicts language_model.dtype="
            f"{config.model_dtype} at ZeRO stage {stage}: {way_out}"
        )

    section["enabled"] = half
    if half:
        types = settings.setdefault("data_types", {})
        if types.get("grad_accum_dtype", AUTO) == AUTO:
            types["grad_accum_dtype"] = "fp32"


def _settle_optimizer(settings: dict[str, Any], config: DAPOConfig, stage: int) -> None:
    """DeepSpeed's own Adam where the configuration has a section for it, else the Learner's."""
    zero = settings.get("zero_optimization", {})
    if config.optimizer_name == "deepspeed_cpu_adamw":
        if stage == 0:
            raise ValueError(
                "deepspeed.config: zero_optimization.stage=0 offloads nothing, but "
                "training.optimizer=deepspeed_cpu_adamw works in main memory: use stage 1 or "
                "higher, or set the optimizer to adamw"
            )
        settings.setdefault("optimizer", {"type": "AdamW"})
        zero.setdefault("offload_optimizer", {"device": "cpu"})

    if config.optimizer_name == "adamw_8bit":
        if "optimizer" in settings:
            raise ValueError(
                "deepspeed.config: optimizer is set, but training.optimizer=adamw_8bit says that "
                "here: take optimizer out, or set training.optimizer to adamw"
            )
        settings.setdefault("zero_allow_untested_optimizer", True)

    if "optimizer" not in settings:
        if "offload_optimizer" in zero:
            # DeepSpeed's CPU Adam needs a compiler; torch's runs everywhere.
            settings.setdefault("zero_force_ds_cpu_optimizer", False)
        return

    section = settings["optimizer"]
    if section.get("type") not in ADAM_TYPES:
        raise ValueError(
            f"deepspeed.config: optimizer.type={section.get('type')!r} must be one of "
            f"{', '.join(ADAM_TYPES)}, or leave the section out"
        )

    params = section.setdefault("params", {})
    for name, value, setting in (
        ("lr", config.lr, "training.lr"),
        ("betas", list(config.adam_betas), "training.adam_betas"),
        ("eps", config.adam_epsilon, "training.adam_epsilon"),
        ("weight_decay", config.weight_decay, "training.weight_decay"),
    ):
        asked = params.get(name, AUTO)
        if (list(asked) if isinstance(asked, tuple) else asked) not in (AUTO, value):
            raise ValueError(
                f"deepspeed.config: optimizer.params.{name}={asked} contradicts "
                f'{setting}={value}: set it to "auto"'
            )
        params[name] = value

    section["type"] = "AdamW"  # decoupled weight decay, as everywhere here
