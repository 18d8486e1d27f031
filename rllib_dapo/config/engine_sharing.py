"""Trials that share an engine (`rollout.shared_engine`): which may, and what it is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

_SET = "rollout.shared_engine=true"
_ELSE = "set rollout.shared_engine to false"


def host_name(config: DAPOConfig) -> str | None:
    """Name of the actor that holds a shared engine: the same for settings that may share one.

    Args:
        config: Valid configuration without search spaces.

    Returns:
        The name; None where each EnvRunner has an engine of its own.
    """
    if not config.samples_elsewhere:
        return None
    told = json.dumps(host_arguments(config), sort_keys=True, default=repr)
    return f"rllib-dapo-engine-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def host_arguments(config: DAPOConfig) -> dict[str, Any]:
    """All that a shared engine is made of, as `rollout.engine_host_actor` takes it.

    Args:
        config: Valid configuration without search spaces.
    """
    return {
        "kind": config.engine,
        "model": str(config.model_name),
        "dtype": config.model_dtype,
        "trust_remote_code": config.trust_remote_code,
        "num_threads": config.num_threads,
        **config.own_engine_settings,
        "seed": 0,  # every request has a seed of its own, so trials may differ in theirs
    }


def check_sharing(config: DAPOConfig) -> Iterator[str]:
    """Findings on `rollout.shared_engine`.

    Args:
        config: Configuration whose values are of their kinds.

    Yields:
        One line for each finding.
    """
    if not config.shared_engine:
        return
    if config.engine != "vllm":
        yield (
            f"{_SET} needs rollout.engine=vllm, which samples from several adapters at a time, and "
            f"that is {config.engine!r}: {_ELSE}"
        )
    if config.lora is None:
        yield (
            f"{_SET} needs language_model.lora, such as {{rank: 16}}: trials share the model's "
            f"weights, and each has its own adapter. To train whole models, {_ELSE}: trials then "
            "take over an engine from one another (tune.reuse_actors)"
        )
    if config.colocate:
        yield (
            f"rollout.colocate=true has an engine and a Learner take turns, and {_SET} has one "
            f"engine sample while others train: {_ELSE}, or rollout.colocate"
        )
    if config.has_ray_workers:
        yield (
            f"rollout.executor='ray' has an engine's workers in a trial's bundles, and {_SET} has "
            "the engine beside all trials: set rollout.executor to mp"
        )
