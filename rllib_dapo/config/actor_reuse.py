"""Which settings a running `DAPO` can take over without new engines and new actors, and which it cannot.

A list of what can change, since with a setting that nobody thought of an algorithm begun again
would not be what a new one is. What is not in it was given to an engine, an environment or an actor
when that was made.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray import cloudpickle

from rllib_dapo.config.kinds import attribute_of

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

# All of whose own settings are read by the driver and by Learners, which are built anew, or in
# every request.
_SECTIONS = (
    "training",
    "kl",
    "importance_sampling",
    "critic",
    "dynamic_sampling",
    "overlong",
    "reporting",
)
_SETTINGS = (
    "training.lr",
    "training.minibatch_size",
    "training.grad_clip",
    "training.gamma",
    "language_model.gradient_checkpointing",
    "language_model.freeze_fraction",
    "language_model.logprob_chunk_tokens",
    "rollout.temperature",
    "rollout.top_p",
    "rollout.max_groups_in_flight",
    "rollout.max_turns",
    "rollout.record_groups",
    "evaluation.evaluation_interval",
    "evaluation.evaluation_num_prompts",
    "evaluation.evaluation_samples_per_prompt",
    "evaluation.evaluation_temperature",
    "evaluation.evaluation_top_p",
    "evaluation.evaluate_before_training",
    "debugging.seed",  # every request to an engine brings its own seed
)
# What says where values came from, and what `DAPOConfig.validate` makes of others.
_DERIVED = frozenset(
    {"class", "variant", "epsilon_draw", "train_batch_size", "_train_batch_size_per_learner"}
)


def renewable_attributes() -> frozenset[str]:
    """Attributes of `DAPOConfig` that `DAPO.reset_config` takes over."""
    from rllib_dapo.config.dapo_config import DAPOConfig

    own = {
        f"{section}.{name}"
        for section in _SECTIONS
        for name, parameter in inspect.signature(getattr(DAPOConfig, section)).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    }
    return _DERIVED | {attribute_of(setting) for setting in (*own, *_SETTINGS)}


def fixed_differences(old: DAPOConfig, new: DAPOConfig) -> list[str]:
    """The settings that differ and cannot be taken over; empty where `new` can follow on `old`.

    Args:
        old: What engines and actors were made with; validated.
        new: What is to be trained; validated.
    """
    ours, theirs = old.to_dict(), new.to_dict()
    renewable = renewable_attributes()
    return sorted(
        name
        for name in {**ours, **theirs}
        if name not in renewable and not _is_same(ours.get(name), theirs.get(name))
    )


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal; functions that came through a pickle are if they are written alike."""
    one, other = _with_lists(one), _with_lists(other)
    return bool(one == other) or cloudpickle.dumps(one) == cloudpickle.dumps(other)


def _with_lists(value: Any) -> Any:
    """The same with lists for tuples: a configuration that Tune has kept in a file comes back so."""
    if isinstance(value, Mapping):
        return {key: _with_lists(inner) for key, inner in value.items()}
    return [_with_lists(inner) for inner in value] if isinstance(value, list | tuple) else value
