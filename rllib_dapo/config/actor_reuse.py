"""Which settings a running `DAPO` can take over without new engines and new actors.

This is a list of the settings that may change, not of those that may not: with a setting that
nobody thought of, an algorithm that begins again would otherwise silently differ from a new one.
Whatever is not listed was given to an engine, an environment or an actor when that was made; if it
differs, the price is a restart rather than a wrong result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray import cloudpickle

from rllib_dapo.config.setting import own_settings

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# The driver reads these, or Learners, which are built anew, or they travel with every request.
_SECTIONS = (
    "training",
    "kl",
    "importance_sampling",
    "start_guard",
    "critic",
    "dynamic_sampling",
    "overlong",
    "evaluation",
    "reporting",
    "debugging",  # its seed: every request to an engine brings a seed of its own
)
_SETTINGS = (
    "language_model.system_prompt",
    "language_model.gradient_checkpointing",
    "language_model.activation_offload",
    "language_model.freeze_fraction",
    "language_model.logprob_chunk_tokens",
    "rollout.temperature",
    "rollout.top_p",
    "rollout.sampling",
    "rollout.max_groups_in_flight",
    "rollout.stall_seconds",
    "rollout.max_staleness",
    "rollout.max_turns",
    "rollout.skip_special_tokens",
    "rollout.record_groups",
    # The way itself was given to the engines.
    "weights.bucket_mib",
    "weights.timeout_s",
)
# RLlib's own, where values came from, and what `DAPOConfig.validate` computes.
_OTHER_ATTRIBUTES = frozenset(
    {
        "class",
        "variant",
        "epsilon_draw",
        "evaluation_interval",
        "train_batch_size",
        "_train_batch_size_per_learner",
        "learner_bytes_at_rest",
        "row_work",
    }
)


def renewable_attributes(config_class: type[DAPOConfig]) -> frozenset[str]:
    """Attributes of a configuration that `DAPO.reset_config` takes over."""
    own = own_settings(config_class).values()
    return _OTHER_ATTRIBUTES | {
        s.attribute for s in own if s.section in _SECTIONS or s.dotted in _SETTINGS
    }


def fixed_differences(old: DAPOConfig, new: DAPOConfig) -> list[str]:
    """The attributes that differ and cannot be taken over; empty where `new` can follow on `old`.

    Args:
        old: Validated configuration that engines and actors were made with.
        new: Validated configuration that is to be trained.
    """
    before, after = old.to_dict(), new.to_dict()
    renewable = renewable_attributes(type(new))
    return sorted(
        name
        for name in {**before, **after}
        if name not in renewable and not is_same_value(before.get(name), after.get(name))
    )


def is_same_value(one: Any, other: Any) -> bool:
    """Whether two values are equal; functions that came through a pickle, whether written alike."""
    one, other = _with_lists(one), _with_lists(other)
    return bool(one == other) or cloudpickle.dumps(one) == cloudpickle.dumps(other)


def _with_lists(value: Any) -> Any:
    """The same with lists for tuples, as a configuration is that Tune has kept in a file."""
    if isinstance(value, Mapping):
        return {key: _with_lists(inner) for key, inner in value.items()}
    return [_with_lists(inner) for inner in value] if isinstance(value, list | tuple) else value
