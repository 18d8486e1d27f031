"""Checks of the settings that come from RLlib: nothing that a user sets is ignored in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.utils import force_list

from rllib_dapo.config.actor_reuse import is_same_value
from rllib_dapo.config.rllib_settings import INTERNAL, UNUSED, USED
from rllib_dapo.config.setting import NotText, attribute_of, known_settings, section_kinds
from rllib_dapo.config.value_kinds import misfit
from rllib_dapo.findings import suggest
from rllib_dapo.ray_internals import DEPRECATED_VALUE

if TYPE_CHECKING:
    from rllib_dapo.config.dapo_config import DAPOConfig

_BATCH_SIZE = "_train_batch_size_per_learner"
# What evaluation takes from its own configuration: `RunnerEnvironments` makes environments of it.
_OF_EVALUATION = ("env", "env_config")
_SHOWN_CHARACTERS = 60


def refused_settings(config: DAPOConfig) -> Iterator[str]:
    """Findings on settings with which a run would not be what was asked for.

    Args:
        config: Configuration to check.

    Yields:
        One line for each finding.
    """
    # RLlib makes evaluation's configuration of training's and changes settings in it. What a user
    # has set is found in training's.
    if config.in_evaluation:
        return

    yield from _unknown_attributes(config)
    yield from (line for line, is_refused in _unused_settings(config) if is_refused)
    yield from _unused_overrides(config)


def warned_settings(config: DAPOConfig) -> list[str]:
    """What to tell a user of settings that have no effect and do no harm, each in one line.

    Args:
        config: Valid configuration.
    """
    warnings = [line for line, is_refused in _unused_settings(config) if not is_refused]
    return [*warnings, *_uncalled_callbacks(config)]


def check_inherited_kinds(config: DAPOConfig) -> Iterator[str]:
    """Findings on RLlib's settings with values that are not of their kind.

    Args:
        config: Configuration to check.

    Yields:
        One line for each finding.
    """
    for setting in known_settings(type(config)):
        section, _, name = setting.partition(".")
        attribute = attribute_of(setting, type(config))
        if attribute in USED and section_kinds(type(config), section)[name] is NotText:
            wanted = misfit(getattr(config, attribute), NotText)
            if wanted:
                yield f"{setting}={getattr(config, attribute)!r} must be {wanted}"

    for setting in ("env_runners.num_env_runners", "learners.num_learners"):
        value = getattr(config, setting.partition(".")[2])
        if misfit(value, int) or value < 0:
            yield f"{setting}={value!r} must be a whole number of at least 0"
    interval = config.evaluation_interval
    if misfit(interval, int | None) or (interval or 0) < 0:
        yield (
            f"evaluation.evaluation_interval={interval!r} must be a whole number of iterations, or "
            "null for no evaluation"
        )


def _unknown_attributes(config: DAPOConfig) -> Iterator[str]:
    """Findings on attributes that no configuration has: a misspelt `config.NAME = ...`."""
    known = vars(type(config)())
    for name in vars(config):
        # RLlib leaves `class` in what it makes of a state.
        if name not in known and name != "class" and not name.startswith("_"):
            yield f"unknown setting {name!r}{suggest(name, known)}"


def _unused_settings(config: DAPOConfig) -> Iterator[tuple[str, bool]]:
    """One line for each setting of RLlib's that was changed in vain, and whether it is refused."""
    defaults = _defaults()
    for name in vars(AlgorithmConfig()):
        value = getattr(config, name)
        if name in USED | INTERNAL or _is_unchanged(name, value, defaults[name], config):
            continue

        shown = _shown(value)
        if name in UNUSED:
            unused = UNUSED[name]
            line = f"{unused.setting}={shown} has no effect here: {unused.instead}"
            yield line, unused.is_refused
        elif defaults[name] == DEPRECATED_VALUE:
            yield f"{name}={shown} is a setting that RLlib has given up: leave it out", True
        else:
            yield f"{name}={shown} is a setting of a newer RLlib: it may have no effect", False


@cache
def _defaults() -> Mapping[str, Any]:
    from rllib_dapo.config.dapo_config import DAPOConfig

    return vars(DAPOConfig())


def _is_unchanged(name: str, value: Any, default: Any, config: DAPOConfig) -> bool:
    # Configurations in checkpoints of earlier versions have the size that follows from the others.
    if name == _BATCH_SIZE and value == config.train_batch_size_per_learner:
        return True
    return _is_same(name, value, default)


def _is_same(name: str, one: Any, other: Any) -> bool:
    if name == "policies":  # RLlib writes spaces into the one that there is
        return set(one) == set(other) if isinstance(one, Mapping) else False
    return one is other or is_same_value(one, other)


def _unused_overrides(config: DAPOConfig) -> Iterator[str]:
    """Findings on what `evaluation_config` changes beside the environment."""
    overrides = config.evaluation_config
    if isinstance(overrides, AlgorithmConfig):
        overrides = vars(overrides)
    if not isinstance(overrides, Mapping):
        if overrides is not None:
            yield (
                f"evaluation.evaluation_config={_shown(overrides)} must be settings, such as "
                "{env_config: {split: heldout}}"
            )
        return

    for name, value in overrides.items():
        if name in (*_OF_EVALUATION, *INTERNAL, "evaluation_config"):
            continue
        # `get` knows the names that RLlib's dictionaries have for some attributes.
        if name in config and not _is_same(name, value, config.get(name)):
            yield (
                f"evaluation.evaluation_config.{name}={_shown(value)} has no effect here: only env "
                "and env_config can differ in evaluation; its sampling has the settings "
                "evaluation_temperature, evaluation_top_p and evaluation_samples_per_prompt"
            )


def _uncalled_callbacks(config: DAPOConfig) -> Iterator[str]:
    """Methods of the user's callback classes that are never called."""
    called = {name.removeprefix("callbacks_") for name in USED if name.startswith("callbacks_on")}
    for callbacks in force_list(config.callbacks_class):
        uncalled = [
            name
            for name, method in vars(RLlibCallback).items()
            if name.startswith("on_")
            and name not in called
            and getattr(callbacks, name) is not method
        ]
        if uncalled:
            yield (
                f"{getattr(callbacks, '__name__', callbacks)}: {', '.join(sorted(uncalled))} is "
                f"never called here; what is called: {', '.join(sorted(called))}"
            )


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
